-- Many prepared statements a connection: each session prepares a batch of statements of several shapes, runs each once,
-- and closes half of those it has in an order of its own; at the common moment all hold what is left.

require("gate")

sysbench.cmdline.options.batch = {"Statements prepared in an event", 30}
sysbench.cmdline.options.kept = {"Statements a session keeps at most", 120}

local shapes = {
   "SELECT amount FROM facts WHERE id = ?",
   "SELECT id, note FROM facts WHERE id BETWEEN ? AND ? + 20 ORDER BY note",
   "SELECT a.id, b.note FROM facts a JOIN facts b ON b.id = a.grp WHERE a.id = ?",
   "SELECT kind, COUNT(*), SUM(amount) FROM facts WHERE id BETWEEN ? AND ? + 50 GROUP BY kind",
   "UPDATE facts SET amount = amount + 1 WHERE id = ?",
   "SELECT * FROM facts WHERE id IN (?, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73)",
   "SELECT (SELECT MAX(b.amount) FROM facts b WHERE b.grp = a.grp), CONCAT(a.note, ?) FROM facts a WHERE a.id = 5",
}
local kept, turn = {}, 0

function prepare()
   local con = sysbench.sql.driver():connect()
   con:query("CREATE TABLE facts (id INT PRIMARY KEY, grp INT NOT NULL, kind INT NOT NULL, " ..
             "note VARCHAR(200) NOT NULL, amount DECIMAL(12,2) NOT NULL, KEY (grp)) ENGINE=InnoDB")
   con:query("INSERT INTO facts SELECT seq, seq * 7919 % 1009, seq % 13, " ..
             "REPEAT(CHAR(97 + seq % 26), 40 + seq * 31 % 140), seq * 1.37 FROM seq_1_to_20000")
end

function thread_init()
   con = sysbench.sql.driver():connect()
end

local function run(thread_id)
   local shape = shapes[(thread_id + turn * 5) % #shapes + 1]
   local statement = con:prepare(shape)
   local _, count = shape:gsub("%?", "")
   local values = {}
   for i = 1, count do
      values[i] = statement:bind_create(sysbench.sql.type.INT)
      -- No two sessions touch one row.
      values[i]:set(thread_id * 300 + turn % 300)
   end
   statement:bind_param(unpack(values))
   statement:execute() -- its result is read by the driver
   return statement
end

event = gated(function(thread_id)
   for i = 1, sysbench.opt.batch do
      turn = turn + 1
      kept[#kept + 1] = run(thread_id)
   end
   while #kept > sysbench.opt.kept do
      for i = 1, #kept / 2 do
         -- 7919 is a prime: the order has nothing to do with that of preparing.
         local at = (turn + i) * 7919 % #kept + 1
         kept[at]:close()
         kept[at] = kept[#kept]
         kept[#kept] = nil
      end
   end
end)

function thread_done()
   for _, statement in ipairs(kept) do
      statement:close()
   end
   con:disconnect()
end
