//! The duty sign: a remote signer for Tendermint and CometBFT nodes, with the face of tmkms.
