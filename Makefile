# Placeholder until the house is furnished.
