//! What travels: bounded decoders and encoders, whatever the bytes.
