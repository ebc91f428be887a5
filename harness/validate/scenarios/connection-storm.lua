-- One wave of a connection storm: every thread is a connection that sorts, groups through a temporary table,
-- concatenates, and keeps its results until all have got as far; then all disconnect.
-- Run with sysbench by the driver, which holds the gate.

require("gate")

sysbench.cmdline.options.rows = {"Rows of the table of facts a session looks at", 3000}
sysbench.cmdline.options.rounds = {"Times a session asks before it holds its results", 2}
sysbench.cmdline.options.seed_of_wave = {"Makes the sessions of each wave differ", 1}

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

event = gated(in_lane(function(thread_id)
   -- Each session looks at slices of its own, of sizes of its own, so that no two ask for the same blocks.
   local opt = sysbench.opt
   con:query("SET SESSION group_concat_max_len = 262144")
   for round = 1, opt.rounds do
      local turn = thread_id * 37 + opt.seed_of_wave * 101 + round * 11
      local rows = opt.rows / 2 + turn * 13 % opt.rows
      local from = turn * 61 % (20000 - 2 * opt.rows)
      local slice = string.format("facts WHERE id BETWEEN %d AND %d", from, from + rows)
      -- A large sort whose result is sent, one whose result stays a temporary table of the session, a grouping with
      -- distinct values, a long concatenation that stays a variable of the session.
      con:query("SELECT id, note FROM " .. slice .. " ORDER BY note, amount DESC LIMIT 100")
      con:query("DROP TEMPORARY TABLE IF EXISTS held")
      con:query("CREATE TEMPORARY TABLE held ENGINE=MEMORY AS SELECT grp, COUNT(*) n, SUM(amount) total, " ..
                "MIN(note) note FROM " .. slice .. " GROUP BY grp ORDER BY total DESC")
      con:query("SELECT kind, COUNT(DISTINCT grp), AVG(amount) FROM " .. slice .. " GROUP BY kind ORDER BY 3")
      con:query("SET @joined = (SELECT GROUP_CONCAT(note ORDER BY amount DESC SEPARATOR ';') FROM " .. slice .. ")")
   end
end))

function thread_done()
   con:disconnect()
end
