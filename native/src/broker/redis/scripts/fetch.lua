-- Reserves a batch of messages: reads, registers, and only then trims (a script has no rollback).
--
-- KEYS[1]  unacked hash          KEYS[2]  unacked index       KEYS[3]  delivery counts
-- KEYS[4+] lists in reading order, priority step first, queue cycle inside it
-- ARGV[1]  tag prefix            ARGV[2]  first counter       ARGV[3]  most messages
-- ARGV[4]  most bytes            ARGV[5]  score               ARGV[6]  number of queues
-- ARGV[7]  "1": fair share per queue, "0": first queues first
-- ARGV[8+] per queue the entry's tail, then per step its priority
-- Returns {1 if messages remain else 0, {counter, deliveries, digest, ...},
--          {list position, first counter, message, ...}, ...}

local unacked, index, counts = KEYS[1], KEYS[2], KEYS[3]
local prefix, counter = ARGV[1], tonumber(ARGV[2])
local room, room_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local score, queues, fair = ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local steps = (#KEYS - 3) / queues
local call, byte, format = redis.call, string.byte, string.format
local counted = call('EXISTS', counts) == 1
local reply, redelivered, remain = { 0, {} }, {}, 0

-- How many each list of a step gives: like kombu's one message at a time from each queue in turn.
local function shares(lengths, order)
  local takes, left, waiting = {}, room, #order
  if not fair then
    for _, position in ipairs(order) do
      takes[position] = math.min(left, lengths[position])
      left = left - takes[position]
    end
    return takes
  end
  while left > 0 and waiting > 0 do
    local share = math.max(1, math.floor(left / waiting))
    waiting = 0
    for _, position in ipairs(order) do
      local taken = takes[position] or 0
      local more = math.min(share, lengths[position] - taken, left)
      takes[position] = taken + more
      left = left - more
      if lengths[position] > takes[position] then waiting = waiting + 1 end
    end
  end
  return takes
end

-- Reads in growing pieces, so that a queue of huge messages is not read far beyond the bound. At least
-- one message is taken, however large. Says last whether the bound held messages back.
local function read(list, take, bound_bytes)
  local messages, count, size, piece = {}, 0, 0, 2
  while count < take do
    piece = math.min(piece, take - count)
    local batch = call('LRANGE', list, -count - piece, -count - 1)
    for at = #batch, 1, -1 do
      size = size + #batch[at]
      if size > bound_bytes and count > 0 then return messages, count, true end
      count = count + 1
      messages[count] = batch[at]
    end
    piece = math.max(1, math.min(piece * 4, math.floor((bound_bytes - size) / (size / count + 1))))
  end
  return messages, count, false
end

local function register(messages, count, tail, priority)
  local entries, scores, width = {}, {}, 0
  for at = 1, count do
    local message = messages[at]
    -- keys.rs says what a tag's number means and why the first one is spelled long.
    local long = at == 1
    local tag = prefix .. format(long and '%065d' or '%d', (counter + at - 1) * 512 + (long and 256 or 0) + priority)
    local body = message -- an object from '{' to '}'; anything else would make the entry unreadable
    if byte(message, 1) ~= 123 or byte(message, -1) ~= 125 then body = cjson.encode(message) end
    entries[width + 1], entries[width + 2] = tag, '[' .. body .. tail
    scores[width + 1], scores[width + 2] = score, tag
    width = width + 2
    if width == 1000 or at == count then
      call('HSET', unacked, unpack(entries, 1, width))
      call('ZADD', index, unpack(scores, 1, width))
      width = 0
    end
  end
end

local function note_redelivered(messages, count)
  local digests = {}
  for at = 1, count do digests[at] = redis.sha1hex(messages[at]) end
  for first = 1, count, 1000 do
    local known = call('HMGET', counts, unpack(digests, first, math.min(first + 999, count)))
    for at, deliveries in ipairs(known) do
      if deliveries then
        local n = #redelivered
        redelivered[n + 1], redelivered[n + 2] = counter + first + at - 2, tonumber(deliveries)
        redelivered[n + 3] = digests[first + at - 1]
      end
    end
  end
end

-- Whether any list of a step exists; asked in one go where there are many.
local function is_worth_a_look(step)
  if queues <= 4 then return true end
  for first = (step - 1) * queues + 1, step * queues, 1000 do
    local last = math.min(first + 999, step * queues)
    if call('EXISTS', unpack(KEYS, 3 + first, 3 + last)) > 0 then return true end
  end
  return false
end

-- Queues in reading order; kombu moves the queue that it popped from to the end, every time.
local cycle = {}
for queue = 1, queues do cycle[queue] = queue end

local function rotate(given)
  local unused, used = {}, {}
  for place, queue in ipairs(cycle) do
    if given[queue] then
      used[#used + 1] = { queue = queue, place = place, given = given[queue] }
    else
      unused[#unused + 1] = queue
    end
  end
  -- Who gave more gave last; equals in their turn.
  table.sort(used, function(one, other)
    if one.given ~= other.given then return one.given < other.given end
    return one.place < other.place
  end)
  for _, item in ipairs(used) do unused[#unused + 1] = item.queue end
  cycle = unused
end

for step = 1, steps do
  local lengths, order, given = {}, {}, {}
  for place = 1, is_worth_a_look(step) and queues or 0 do
    local position = (step - 1) * queues + cycle[place]
    local length = call('LLEN', KEYS[3 + position])
    if length > 0 then
      lengths[position] = length
      order[#order + 1] = position
      remain = remain + length
    end
  end
  local takes, held_back = shares(lengths, order), false
  for nth, position in ipairs(order) do
    local take = takes[position] or 0
    if take > 0 and room_bytes > 0 then
      local list, queue = KEYS[3 + position], (position - 1) % queues + 1
      local bound_bytes = fair and math.ceil(room_bytes / (#order - nth + 1)) or room_bytes
      local messages, count, cut = read(list, take, bound_bytes)
      held_back = held_back or cut
      register(messages, count, ARGV[7 + queue], tonumber(ARGV[7 + queues + step]))
      call('LTRIM', list, 0, -count - 1)
      if counted then note_redelivered(messages, count) end
      local group = { position, counter }
      for at = 1, count do
        group[at + 2] = messages[at]
        room_bytes = room_bytes - #messages[at]
      end
      reply[#reply + 1] = group
      given[queue] = count
      counter, room, remain = counter + count, room - count, remain - count
    end
  end
  if fair and queues > 1 then rotate(given) end
  -- Messages of a later step must not overtake those that the bytes held back.
  if room <= 0 or room_bytes <= 0 or held_back then
    if remain == 0 then
      for later = step + 1, steps do
        for position = (later - 1) * queues + 1, later * queues do
          if remain == 0 then remain = call('EXISTS', KEYS[3 + position]) end
        end
      end
    end
    break
  end
end
reply[1] = remain > 0 and 1 or 0
reply[2] = redelivered
return reply
