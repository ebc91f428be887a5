-- Far more tables than the table cache holds: sessions read and join tables in orders of their own, so that each open
-- evicts another's; some alter, create and drop tables, one flushes, some read the information schema, which opens all.
-- At the common moment each has a join's tables open.

require("gate")

sysbench.cmdline.options.tables = {"Tables", 300}

local turn = 0

function prepare()
   local con = sysbench.sql.driver():connect()
   for i = 1, sysbench.opt.tables do
      -- Tables of 4 to 40 columns.
      local columns = {}
      for c = 1, 2 + i * 7 % 37 do
         columns[c] = string.format("c%d %s", c, ({"INT", "VARCHAR(100)", "DECIMAL(10,2)", "DATETIME", "TEXT"})[c % 5 + 1])
      end
      con:query(string.format("CREATE TABLE t%d (id INT PRIMARY KEY, owner INT, %s, KEY (owner)) ENGINE=InnoDB", i,
                              table.concat(columns, ", ")))
      con:query(string.format("INSERT INTO t%d (id, owner) SELECT seq, seq %% 7 FROM seq_1_to_20", i))
   end
end

function thread_init()
   con = sysbench.sql.driver():connect()
end

local function table_number(thread_id, step)
   return (thread_id * 97 + turn * 61 + step * 13) % sysbench.opt.tables + 1
end

local function join(thread_id, count)
   local names = {}
   for i = 1, count do
      names[i] = string.format("t%d a%d", table_number(thread_id, i), i)
   end
   return "SELECT COUNT(*) FROM " .. table.concat(names, ", ")
end

local function define(thread_id)
   local own = string.format("own_%d", thread_id)
   con:query(string.format("CREATE OR REPLACE TABLE %s LIKE t%d", own, table_number(thread_id, 0)))
   con:query(string.format("INSERT INTO %s (id, owner) VALUES (1, 2), (2, 3)", own))
   con:query(string.format("ALTER TABLE %s ADD COLUMN added VARCHAR(60) DEFAULT 'x', ADD KEY again (owner, id)", own))
   con:query(string.format("SELECT * FROM %s WHERE added = 'x'", own))
   con:query("DROP TABLE " .. own)
end

event = gated(function(thread_id)
   turn = turn + 1
   local role = thread_id % 8
   if role == 6 and turn % 4 == 0 then
      define(thread_id)
   elseif role == 7 and turn % 20 == 0 then
      con:query("SELECT SUM(data_length), MAX(table_rows), COUNT(*) FROM information_schema.tables WHERE table_schema = 'load'")
      con:query("SELECT COUNT(*), MAX(column_type) FROM information_schema.columns WHERE table_schema = 'load'")
   elseif thread_id == 0 and turn % 40 == 0 then
      con:query("FLUSH TABLES")
   elseif turn % 3 == 0 then
      con:query(join(thread_id, 3) .. " WHERE a1.id = 1 AND a2.id = 2 AND a3.id = 3")
   else
      con:query(string.format("SELECT * FROM t%d WHERE id < 6 ORDER BY owner", table_number(thread_id, 0)))
   end
   if turn == sysbench.opt.share then
      con:query(join(thread_id, 10) .. ", gate") -- opens the ten and waits with them
   end
end)

function thread_done()
   con:disconnect()
end
