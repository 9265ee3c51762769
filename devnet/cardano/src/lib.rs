//! A Cardano network small enough to embed, with Mithril signers.
