-- Reads a channel's position and what is kept of it, beginning its history if it has none.
--
-- KEYS[1]  the channel's base; see publish.lua
-- ARGV     run id of this server, an epoch for a history that begins here, mode, how many messages at most (0: none)
-- Answers {epoch, offset, blobs}; in mode l the blobs are values "offset blob".
local run, fresh, mode, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local base = KEYS[1]
local head = redis.call('HMGET', base .. ':m', 'e', 'o', 'r')
if not head[1] or head[3] ~= run then
  redis.call('DEL', base .. ':h', base .. ':l')
  redis.call('HSET', base .. ':m', 'e', fresh, 'o', 0, 'r', run)
  redis.call('EXPIRE', base .. ':m', 604800)
  return {fresh, 0, {}}
end
local kept = {}
if mode == 'l' then
  kept = redis.call('HVALS', base .. ':l')
elseif mode == 'h' and limit > 0 then
  kept = redis.call('LRANGE', base .. ':h', -limit, -1)
end
return {head[1], tonumber(head[2] or '0'), kept}
