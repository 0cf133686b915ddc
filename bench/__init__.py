"""What ``make bench`` runs; ``bench/README.md`` says how the figures come about."""
