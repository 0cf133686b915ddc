-- Takes back a fetch whose answer was lost with its connection: what it registered returns to the lists.
--
-- KEYS[1] unacked hash   KEYS[2] unacked index
-- ARGV[1] key prefix   ARGV[2] separator   ARGV[3] tag prefix   ARGV[4] first counter   ARGV[5] how many
-- ARGV[6+] priority steps
-- Returns how many messages were found.

local found = 0
for counter = tonumber(ARGV[4]) + tonumber(ARGV[5]) - 1, tonumber(ARGV[4]), -1 do
  local tags = {}
  for at = 6, #ARGV do
    local number = counter * 512 + tonumber(ARGV[at])
    tags[#tags + 1] = ARGV[3] .. string.format('%d', number)
    tags[#tags + 1] = ARGV[3] .. string.format('%065d', number + 256)
  end
  local entries = redis.call('HMGET', KEYS[1], unpack(tags))
  for at, entry in ipairs(entries) do
    if entry and not redis.call('ZSCORE', KEYS[2], tags[at]) then
      -- The fetch stopped between registering and trimming: the message never left its list.
      redis.call('HDEL', KEYS[1], tags[at])
    elseif entry then
      local message, queue = open_entry(entry)
      put_back(KEYS[1], KEYS[2], tags[at], list_of(tags[at], queue, ARGV[1], ARGV[2]), message)
      found = found + 1
    end
  end
end
return found
