-- The common moment of a load's sessions: each does its share of work and then waits at a table that the driver has
-- locked, so that all are there with what they hold. Used by the scenarios beside it.

sysbench.cmdline.options = sysbench.cmdline.options or {}
sysbench.cmdline.options.share = {"Events a session does before it waits at the gate", 1}

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
