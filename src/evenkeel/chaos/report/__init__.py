"""How a judged run is told: page, graphs, journal, and files for other programs."""
