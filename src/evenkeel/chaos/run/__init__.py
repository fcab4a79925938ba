"""What happens while a run goes on: supervisor, sampler, the check of the steady state, annotations in Grafana."""
