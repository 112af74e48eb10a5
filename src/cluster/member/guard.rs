//! What a datagram may say before it is taken in.
//!
//! foca believes what it reads. So it is read once before: who sends it, that nobody is sent anything
//! whom no member has named, and that members do not grow without bound.

use super::{NODES_MAX, Node};
use foca::{Codec, Message, PostcardCodec};
use std::net::SocketAddr;

/// Why a datagram is not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is none of a member's.
    Malformed,
    /// It came from another address than it says, and no secret vouches for it.
    WrongSender,
    /// It names an address that nothing can be sent to, or that no member has.
    WrongAddress,
    /// It names more nodes than [`NODES_MAX`].
    TooMany,
}

/// Reads it through; who sends it.
pub(super) fn check(
    mut bytes: &[u8],
    from: Option<SocketAddr>,
    me: &Node,
    known: impl Iterator<Item = SocketAddr>,
) -> Result<Node, Refused> {
    let mut known: Vec<SocketAddr> = known.collect();
    let header = PostcardCodec.decode_header(&mut bytes);
    let header: foca::Header<Node> = header.map_err(|_| Refused::Malformed)?;
    if from.is_some_and(|from| from != header.src.addr) {
        return Err(Refused::WrongSender);
    }
    if !header.src.is_reachable() {
        return Err(Refused::WrongAddress);
    }
    let third = match &header.message {
        Message::PingReq { target: node, .. }
        | Message::IndirectPing { origin: node, .. }
        | Message::IndirectAck { target: node, .. }
        | Message::ForwardedAck { origin: node, .. } => Some(node),
        Message::Ping(_)
        | Message::Ack(_)
        | Message::Announce
        | Message::Feed
        | Message::Gossip
        | Message::TurnUndead => None,
        // Nothing of ours.
        Message::Broadcast => return Err(Refused::Malformed),
    };
    if let Some(node) = third
        && (node.addr == me.addr || !known.contains(&node.addr))
    {
        return Err(Refused::WrongAddress);
    }
    if header.src.addr != me.addr && !known.contains(&header.src.addr) {
        known.push(header.src.addr);
    }
    if let Some((count, rest)) = bytes.split_first_chunk() {
        bytes = rest;
        for _ in 0..u16::from_be_bytes(*count) {
            let member = PostcardCodec.decode_member(&mut bytes);
            let member: foca::Member<Node> = member.map_err(|_| Refused::Malformed)?;
            if !member.id().is_reachable() {
                return Err(Refused::WrongAddress);
            }
            let addr = member.id().addr;
            if addr != me.addr && !known.contains(&addr) {
                known.push(addr);
            }
        }
    }
    if !bytes.is_empty() {
        return Err(Refused::Malformed);
    }
    // This node has a place of its own.
    if known.len() >= NODES_MAX {
        return Err(Refused::TooMany);
    }
    Ok(header.src)
}
