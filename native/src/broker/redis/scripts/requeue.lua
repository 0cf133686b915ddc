-- Hands deliveries of one list back to its head.
--
-- KEYS[1] unacked hash   KEYS[2] unacked index   KEYS[3] delivery counts   KEYS[4] list
-- ARGV[1] "1": it was delivered: count and mark it   ARGV[2] life of the counts in seconds
-- ARGV[3+] tags, youngest first, so that the oldest ends up at the very end that consumers pop
-- Returns how many were still ours.

local returned = 0
for at = 3, #ARGV do
  local entry = redis.call('HGET', KEYS[1], ARGV[at])
  local message = entry and open_entry(entry)
  if message then
    if ARGV[1] == '1' then
      message = as_redelivered(message)
      count_delivery(KEYS[3], message, ARGV[2])
    end
    put_back(KEYS[1], KEYS[2], ARGV[at], KEYS[4], message)
    returned = returned + 1
  end
end
return returned
