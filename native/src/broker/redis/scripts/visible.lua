-- What kombu's workers do for each other: messages whose lease ran out become visible again.
-- Holds kombu's mutex meanwhile, so that a stock worker's sweep and ours do not meet.
--
-- KEYS[1] unacked hash   KEYS[2] unacked index   KEYS[3] delivery counts   KEYS[4] nodes   KEYS[5] mutex
-- ARGV[1] key prefix   ARGV[2] separator   ARGV[3] life of the counts in seconds
-- ARGV[4] latest score that has run out   ARGV[5] most tags   ARGV[6] token of the mutex
-- ARGV[7] life of the mutex in seconds   ARGV[8] seconds until a silent node counts as dead
-- ARGV[9] our own owner name   ARGV[10] how many tags at the head to pass over
-- Returns {handed back, {tag, entry, ...}, tags seen, tags without an entry}: our own tags and stock workers' are left to the caller, since
-- it knows what it holds, and only a stock worker's message says which list it belongs to.

if not redis.call('SET', KEYS[5], ARGV[6], 'NX', 'EX', ARGV[7]) then return { 0, {}, 0, 0 } end
local alive_since = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[8])
local returned, foreign, forgotten = 0, {}, 0
local tags = redis.call('ZRANGEBYSCORE', KEYS[2], 0, ARGV[4], 'LIMIT', ARGV[10], ARGV[5])
for at = #tags, 1, -1 do
  local tag = tags[at]
  local owner = string.match(tag, '^pyw:(.*):%d+$')
  local entry = redis.call('HGET', KEYS[1], tag)
  if not entry then
    redis.call('ZREM', KEYS[2], tag)
    forgotten = forgotten + 1
  elseif not owner or owner == ARGV[9] then
    foreign[#foreign + 1] = tag
    foreign[#foreign + 1] = entry
  elseif tonumber(redis.call('ZSCORE', KEYS[4], owner) or 0) <= alive_since then
    local message, queue = open_entry(entry)
    if message then
      message = as_redelivered(message)
      count_delivery(KEYS[3], message, ARGV[3])
      put_back(KEYS[1], KEYS[2], tag, list_of(tag, queue, ARGV[1], ARGV[2]), message)
      returned = returned + 1
    end
  end
end
redis.call('DEL', KEYS[5])
return { returned, foreign, #tags, forgotten }
