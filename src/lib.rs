//! The layers of qchat, lowest first.
