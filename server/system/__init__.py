"""Operating system: threads, files, permissions, descriptors, standard streams, shortages."""
