//! Replays a recorded trace on the recorded threads.
