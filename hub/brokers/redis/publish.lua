-- Publishes messages to recoverable and latest channels: idempotency, offset and epoch, history, expiry, PUBLISH.
-- All or nothing for each channel, because a script runs alone.
--
-- KEYS[1]  the base of the first channel. No such key exists, on purpose: while its slot moves to another server a
--          cluster then refuses the script as a whole, and no channel is half here and half there.
-- ARGV     PUBLISH or SPUBLISH, run id of this server, an epoch for histories that begin here, then per channel:
--          name, mode (h history, l latest, n nothing), how many messages or keys are kept, ttl in seconds, count,
--          seal, then per message:
--          blob, key, idempotency key ('' for none), hash, timestamp
-- Answers per channel {epoch, answer...}; an answer is an offset, {offset, timestamp, epoch} for a repeated key,
-- or 0 for a key that came with another message.
local tell, run, fresh = ARGV[1], ARGV[2], ARGV[3]
local position, answers = 4, {}
while position <= #ARGV do
  local name, mode = ARGV[position], ARGV[position + 1]
  local size, ttl, count = tonumber(ARGV[position + 2]), ARGV[position + 3], tonumber(ARGV[position + 4])
  local seal = ARGV[position + 5]
  position = position + 6
  local base = 'krin:{' .. name .. '}'
  local head = redis.call('HMGET', base .. ':m', 'e', 'o', 'r')
  local epoch, top = head[1], tonumber(head[2] or '0')
  if not epoch or head[3] ~= run then
    -- First message, or the server restarted: what it remembers may be older than what it promised.
    epoch, top = fresh, 0
    redis.call('DEL', base .. ':h', base .. ':l')
    redis.call('HSET', base .. ':m', 'e', epoch, 'r', run)
  end
  local answer, all, blobs, skipped, first = {epoch}, {}, {}, {}, top + 1
  for number = 0, count - 1 do
    local blob, key, idempotency = ARGV[position], ARGV[position + 1], ARGV[position + 2]
    local hash, timestamp = ARGV[position + 3], ARGV[position + 4]
    position = position + 5
    all[#all + 1] = blob
    local known = idempotency ~= '' and redis.call('HMGET', base .. ':i:' .. idempotency, 'h', 'o', 't', 'e')
    if known and known[1] then
      skipped[#skipped + 1] = number
      if known[1] == hash then
        answer[#answer + 1] = {tonumber(known[2]), tonumber(known[3]), known[4]}
      else
        answer[#answer + 1] = 0
      end
    else
      top = top + 1
      answer[#answer + 1] = top
      blobs[#blobs + 1] = blob
      if mode == 'l' then
        local values = base .. ':l'
        if redis.call('HSET', values, key, top .. ' ' .. blob) == 1 and redis.call('HLEN', values) > size then
          -- One key too many: the value that is longest unchanged goes.
          local stored, oldest, oldest_offset = redis.call('HGETALL', values), nil, nil
          for i = 1, #stored, 2 do
            local offset = tonumber(string.match(stored[i + 1], '^%d+'))
            if not oldest_offset or offset < oldest_offset then
              oldest, oldest_offset = stored[i], offset
            end
          end
          redis.call('HDEL', values, oldest)
        end
      end
      if idempotency ~= '' then
        local id = base .. ':i:' .. idempotency
        redis.call('HSET', id, 'h', hash, 'o', top, 't', timestamp, 'e', epoch)
        redis.call('EXPIRE', id, 300)
      end
    end
  end
  if #blobs > 0 then
    redis.call('HSET', base .. ':m', 'o', top)
    redis.call('EXPIRE', base .. ':m', 604800)
    if mode == 'h' then
      redis.call('RPUSH', base .. ':h', unpack(blobs))
      redis.call('LTRIM', base .. ':h', -size, -1)
      redis.call('EXPIRE', base .. ':h', ttl)
    elseif mode == 'l' then
      redis.call('EXPIRE', base .. ':l', 604800)
    end
    -- All of them, also the repeats: the seal is over all.
    local payload = epoch .. ' ' .. first .. ' ' .. table.concat(skipped, ',') .. ' ' .. seal .. table.concat(all)
    redis.call(tell, base, payload)
  end
  answers[#answers + 1] = answer
end
return answers
