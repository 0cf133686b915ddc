-- Hands a dead node's messages back, unless the node has come back to life.
--
-- KEYS[1] unacked hash   KEYS[2] unacked index   KEYS[3] delivery counts   KEYS[4] nodes   KEYS[5] lock
-- ARGV[1] key prefix   ARGV[2] separator   ARGV[3] life of the counts in seconds
-- ARGV[4] owner   ARGV[5] seconds until a silent node counts as dead   ARGV[6] life of the lock in seconds
-- ARGV[7] "1": the last batch, forget the node
-- ARGV[8+] tags, youngest first
-- Returns how many were handed back, or -1 when the node lives.

local seen = tonumber(redis.call('ZSCORE', KEYS[4], ARGV[4]) or 0)
if seen > tonumber(redis.call('TIME')[1]) - tonumber(ARGV[5]) then
  redis.call('DEL', KEYS[5])
  return -1
end
local returned = 0
for at = 8, #ARGV do
  local tag = ARGV[at]
  local entry = redis.call('HGET', KEYS[1], tag)
  local message, queue
  if entry then message, queue = open_entry(entry) end
  if message then
    message = as_redelivered(message)
    count_delivery(KEYS[3], message, ARGV[3])
    put_back(KEYS[1], KEYS[2], tag, list_of(tag, queue, ARGV[1], ARGV[2]), message)
    returned = returned + 1
  elseif not entry then
    redis.call('ZREM', KEYS[2], tag)
  end
end
if ARGV[7] == '1' then
  redis.call('ZREM', KEYS[4], ARGV[4])
  redis.call('DEL', KEYS[5])
else
  redis.call('EXPIRE', KEYS[5], ARGV[6])
end
return returned
