-- Renews leases, or moves them to a later time.
--
-- KEYS[1] unacked index
-- ARGV    score, tag, score, tag, ...
-- Returns the positions (0 = first tag) of tags that are gone: somebody else has those messages.

local missing = {}
local changed = redis.call('ZADD', KEYS[1], 'XX', 'CH', unpack(ARGV))
if changed == #ARGV / 2 then return missing end
for at = 2, #ARGV, 2 do
  if not redis.call('ZSCORE', KEYS[1], ARGV[at]) then missing[#missing + 1] = at / 2 - 1 end
end
return missing
