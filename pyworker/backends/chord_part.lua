-- Counts one finished task of a chord's header.
-- KEYS: 1 parts (.j), 2 difference to the size (.t), 3 size (.s), 4 members seen (.d), 5 the group, 6 claim (.c)
-- ARGV: 1 task id, 2 encoded part, 3 '1' if parts keep the header's order, 4 place in the header,
--       5 seconds the parts live (0 for ever), 6 seconds of the claim, 7 the claim's token
-- Returns 0 while parts are missing or after the body was sent, 1 if this call claimed the body, 2 if the chord is
-- complete but somebody else, who may have died, has the claim. The layout is a stock worker's.
if redis.call('GET', KEYS[6]) == 'done' then
  return 0
end
local member = ARGV[1] .. ':' .. ARGV[4]
if redis.call('SADD', KEYS[4], member) == 1 then
  if ARGV[3] == '1' then
    redis.call('ZADD', KEYS[1], ARGV[4], ARGV[2])
  else
    redis.call('RPUSH', KEYS[1], ARGV[2])
  end
end
local lifetime = tonumber(ARGV[5])
if lifetime > 0 then
  for position = 1, 5 do
    redis.call('EXPIRE', KEYS[position], lifetime)
  end
end
local size = redis.call('GET', KEYS[3])
if not size then
  return 0
end
local count
if ARGV[3] == '1' then
  count = redis.call('ZCARD', KEYS[1])
else
  count = redis.call('LLEN', KEYS[1])
end
if count ~= tonumber(size) + tonumber(redis.call('GET', KEYS[2]) or '0') then
  return 0
end
-- Sending the body of a large chord takes longer.
if redis.call('SET', KEYS[6], ARGV[7], 'NX', 'EX', tonumber(ARGV[6]) + math.floor(count / 5000)) then
  return 1
end
return 2
