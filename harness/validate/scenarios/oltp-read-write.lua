-- sysbench's own oltp_read_write, each session the same number of transactions, then a common moment with all prepared
-- statements open.

require("oltp_read_write")
require("gate")

event = gated(event)
