"""Target machines: hardware specs, operator fusion, quantisation."""
