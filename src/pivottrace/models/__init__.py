"""Libraries that sample and train; each is imported only when it is used."""
