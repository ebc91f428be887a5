-- Values of 64 KiB to 8 MiB, log-uniform in size, sent to the server and fetched from it. Each session's sizes follow
-- from its number; at the common moment each holds one more value as a variable of its own.

require("gate")

sysbench.cmdline.options.blobs = {"Blobs that exist at a time", 40}

local smallest, ratio = 64 * 1024, 128
local turn = 0

function prepare()
   sysbench.sql.driver():connect():query("CREATE TABLE blobs (id INT PRIMARY KEY, body LONGBLOB NOT NULL) ENGINE=InnoDB")
end

function thread_init()
   con = sysbench.sql.driver():connect()
end

-- The next of a session's numbers in [0, 1): multiples of the golden ratio's fraction, which fill the range evenly.
local function next_fraction(thread_id)
   turn = turn + 1
   return (thread_id * 0.7548776662 + turn * 0.6180339887) % 1
end

event = gated(in_lane(function(thread_id)
   local share = next_fraction(thread_id)
   local size = math.floor(smallest * ratio ^ share)
   local id = math.floor(next_fraction(thread_id) * sysbench.opt.blobs)
   if turn % 4 == 0 then
      -- The body travels from client to server, through the network buffer and the parser.
      con:query(string.format("REPLACE INTO blobs VALUES (%d, '%s')", id, string.rep("b", size)))
   else
      con:query(string.format("SELECT id, body FROM blobs WHERE id = %d", id))
   end
   if turn == 2 * sysbench.opt.share then
      con:query(string.format("SET @held = REPEAT('h', %d)", size / 4))
   end
end))

function thread_done()
   con:disconnect()
end
