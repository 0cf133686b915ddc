//! What only the file promises.
