-- Blobs of 10 KB to 2 MB, log-uniform in size, inserted, read, replaced, appended to and deleted. Run with sysbench.

require("gate")

sysbench.cmdline.options.blobs = {"Blobs that exist at a time", 60}

local smallest, ratio = 10 * 1024, 200

function prepare()
   local con = sysbench.sql.driver():connect()
   con:query("CREATE TABLE blobs (id INT PRIMARY KEY, name VARCHAR(40), body LONGBLOB) ENGINE=InnoDB")
end

function thread_init()
   con = sysbench.sql.driver():connect()
end

local function size()
   return math.floor(smallest * ratio ^ sysbench.rand.uniform_double())
end

event = gated(function(thread_id)
   local id = sysbench.rand.uniform(1, sysbench.opt.blobs)
   local dice = sysbench.rand.uniform(1, 10)
   if dice <= 3 then
      -- The body travels from client to server, through the network buffer and the parser.
      local body = string.rep(string.char(97 + id % 26), size())
      con:query(string.format("REPLACE INTO blobs VALUES (%d, 'sent %d', '%s')", id, id, body))
   elseif dice == 4 then
      con:query(string.format("REPLACE INTO blobs VALUES (%d, 'made %d', REPEAT('%s', %d))", id, id, "0123456789", size() / 10))
   elseif dice <= 8 then
      con:query(string.format("SELECT id, name, body FROM blobs WHERE id = %d", id))
   elseif dice == 9 then
      con:query(string.format("UPDATE blobs SET body = CONCAT(LEFT(body, 1000000), REPEAT('x', %d)) WHERE id = %d", size() / 2, id))
   else
      con:query(string.format("DELETE FROM blobs WHERE id = %d", id))
   end
end)

function thread_done()
   con:disconnect()
end
