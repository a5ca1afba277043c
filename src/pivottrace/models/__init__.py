"""Code around the libraries that sample and train. Each library is imported only when used."""
