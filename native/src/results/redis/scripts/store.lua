-- Stores a batch of results as celery.backends.redis does: SET with expiry, then PUBLISH on the key's own channel.
-- A stored SUCCESS stays, and what would have replaced it is not published.
--
-- KEYS[i]      the key of the i-th result
-- ARGV[1]      expiry in seconds, empty for none
-- ARGV[2]      one character per key: p = respect a stored SUCCESS, f = force; empty when all are p
-- ARGV[2 + i]  the value of the i-th result
--
-- Returns 0, or a flat list of (i, stored value) for the keys whose stored value has a form that cannot be judged
-- here: those were not written. Only the form that kombu's JSON gives a result is judged; decoding is the client's.

local call, byte, sub = redis.call, string.byte, string.sub
local expiry, modes = ARGV[1], ARGV[2]
local FORCE = 102
local STATUS, SUCCESS = '{"status": "', '{"status": "SUCCESS"'
local unjudged = {}

local function overwrite(key, value)
  if expiry == '' then
    call('SET', key, value)
  else
    call('SET', key, value, 'EX', expiry)
  end
end

local function set_if_absent(key, value)
  if expiry == '' then
    return call('SET', key, value, 'NX')
  end
  return call('SET', key, value, 'EX', expiry, 'NX')
end

for i = 1, #KEYS do
  local key, value = KEYS[i], ARGV[i + 2]
  local stored_now = true
  if byte(modes, i) == FORCE then
    overwrite(key, value)
  elseif not set_if_absent(key, value) then
    -- A key of another type gives an error table here; SETEX would replace it, so we do.
    local stored = redis.pcall('GET', key)
    if type(stored) ~= 'string' or stored == '' then
      overwrite(key, value)
    elseif sub(stored, 1, #SUCCESS) == SUCCESS then
      stored_now = false
    elseif sub(stored, 1, #STATUS) == STATUS then
      overwrite(key, value)
    else
      stored_now = false
      unjudged[#unjudged + 1] = i
      unjudged[#unjudged + 1] = stored
    end
  end
  if stored_now then
    call('PUBLISH', key, value)
  end
end

if #unjudged == 0 then
  return 0
end
return unjudged
