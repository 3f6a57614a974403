"""From runs to the posterior of their learning curves, and from tasks to a new one."""
