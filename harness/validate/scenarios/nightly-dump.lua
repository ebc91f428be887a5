-- The day of a server that is dumped at night: transactions on some of many tables, which grow from day to day. The
-- driver runs it once a day, dumps all tables after each, and doubles the rows of the tables that this script fills.

require("oltp_read_write")
require("gate")

sysbench.cmdline.options.archives = {"Tables that only the dump reads", 80}

function make_archives(con)
   for i = 1, sysbench.opt.archives do
      con:query(string.format("CREATE TABLE archive%d (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(200), body TEXT) ENGINE=InnoDB", i))
      con:query(string.format("INSERT INTO archive%d (note, body) SELECT REPEAT('n', seq * 37 %% 200), REPEAT('b', seq * 4001 %% %d) FROM seq_1_to_12",
                              i, 1000 + i * 150))
   end
end

sysbench.cmdline.commands.archives = {function() make_archives(sysbench.sql.driver():connect()) end}

event = gated(event)
