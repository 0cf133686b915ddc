-- Hands a stock worker's message back after its lease ran out, if nobody else did meanwhile.
--
-- KEYS[1] unacked hash   KEYS[2] unacked index   KEYS[3] delivery counts   KEYS[4+] lists
-- ARGV[1] tag   ARGV[2] latest score that has run out   ARGV[3] message   ARGV[4] life of the counts in seconds
-- Returns 1 when handed back, else 0.

local score = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]))
if not score or score > tonumber(ARGV[2]) or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local message = as_redelivered(ARGV[3])
count_delivery(KEYS[3], message, ARGV[4])
for at = 4, #KEYS do put_back(KEYS[1], KEYS[2], ARGV[1], KEYS[at], message) end
return 1
