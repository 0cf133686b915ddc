-- Says that a node lives, and looks for nodes that do not any more.
--
-- KEYS[1] nodes (owner by time last seen, by the server's clock)
-- ARGV[1] owner   ARGV[2] seconds until a silent node counts as dead   ARGV[3] life of the key in seconds
-- ARGV[4] prefix of the keys that lock a dead node's reclaim   ARGV[5] life of such a lock in seconds
-- Returns {number of live nodes, a dead owner that the caller alone may reclaim now, or nothing}

local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
local alive = redis.call('ZCARD', KEYS[1]) - #dead
for _, owner in ipairs(dead) do
  if redis.call('SET', ARGV[4] .. owner, ARGV[1], 'NX', 'EX', ARGV[5]) then return { alive, owner } end
end
return { alive }
