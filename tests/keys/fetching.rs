//! What a host of keys does wrong, and what forgers try with it.
