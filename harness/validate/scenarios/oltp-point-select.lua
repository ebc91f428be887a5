-- sysbench's own oltp_point_select, each session the same number of reads, then a common moment.

require("oltp_point_select")
require("gate")

event = gated(event)
