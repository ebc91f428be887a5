-- The common moment of a load's sessions: each does its share of work and then waits at a table that the driver has
-- locked, so that all are there with what they hold. Used by the scenarios beside it.

sysbench.cmdline.options = sysbench.cmdline.options or {}
sysbench.cmdline.options.share = {"Events a session does before it waits at the gate", 1}
sysbench.cmdline.options.lanes = {"Sessions that work at a time, where a load keeps to lanes", 4}

-- An event function that calls `work`, and waits after the last of the session's share. A session that is done takes no
-- events from the others, since it waits: each does as many as every other.
function gated(work)
   local done = 0
   return function(thread_id)
      work(thread_id)
      done = done + 1
      if done == sysbench.opt.share then
         con:query("SELECT COUNT(*) FROM gate")
      end
   end
end

-- Work that no more sessions do at a time than there are lanes: how much large work overlaps, and with it the peak, then
-- does not follow the scheduler.
function in_lane(work)
   return function(thread_id)
      local lane = thread_id % sysbench.opt.lanes
      con:query(string.format("SELECT GET_LOCK('lane %d', 300)", lane))
      work(thread_id)
      con:query(string.format("SELECT RELEASE_LOCK('lane %d')", lane))
   end
end
