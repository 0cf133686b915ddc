-- Put in front of every script that hands messages back.
--
-- An entry of the unacked hash is JSON that stock kombu restores to one queue alone:
--   [<message>, "", "<queue>"]
-- It is taken apart by its tail only. No message is ever decoded here: cjson would turn large integers
-- into floats and empty lists into objects. What is no JSON object was stored as a JSON string.

local TAIL = '.*(),"","'

local function open_entry(entry)
  local tail_at = string.match(entry, TAIL)
  if not tail_at or string.sub(entry, 1, 1) ~= '[' then return nil end
  local message = string.sub(entry, 2, tail_at - 1)
  if string.sub(message, 1, 1) == '"' then message = cjson.decode('[' .. message .. ']')[1] end
  return message, cjson.decode('[' .. string.sub(entry, tail_at + 1))[2]
end

-- A tag of ours is pyw:<owner>:<n>; the low eight bits of n are the priority step of the source list.
local function list_of(tag, queue, keyprefix, separator)
  local priority = tonumber(string.match(tag, ':(%d+)$')) % 256
  if priority == 0 then return keyprefix .. queue end
  return keyprefix .. queue .. separator .. string.format('%d', priority)
end

local MARK = '"redelivered": true'

-- Puts the mark into the first object of that name after `from`. An unescaped quote cannot stand inside a JSON
-- string, so what looks like a key is one.
local function mark_object(message, name, from)
  local found, at = string.find(message, '"' .. name .. '": {', from, true)
  if not found then found, at = string.find(message, '"' .. name .. '":{', from, true) end
  if not found then return message end
  local rest = string.sub(message, at + 1)
  local comma = string.find(rest, '^%s*}') and '' or ', '
  return string.sub(message, 1, at) .. MARK .. comma .. rest
end

-- What kombu's restore says in a message that comes back: in its headers and in its delivery_info.
local function as_redelivered(message)
  if string.sub(message, 1, 1) ~= '{' or string.find(message, MARK, 1, true) then return message end
  local marked = mark_object(message, 'headers')
  local _, properties_at = string.find(marked, '"properties": ?{')
  return properties_at and mark_object(marked, 'delivery_info', properties_at) or marked
end

-- Deliveries are counted by the message's digest, the only name that survives without decoding it.
local function count_delivery(counts, message, expire_s)
  redis.call('HINCRBY', counts, redis.sha1hex(message), 1)
  redis.call('EXPIRE', counts, expire_s)
end

-- Back to the end that consumers pop, and only then out of the unacked keys: no instant without a copy.
local function put_back(unacked, index, tag, list, message)
  redis.call('RPUSH', list, message)
  redis.call('HDEL', unacked, tag)
  redis.call('ZREM', index, tag)
end
