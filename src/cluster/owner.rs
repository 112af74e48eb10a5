//! Whose an identity is: by rendezvous over the nodes that are there.
//!
//! ```text
//! identity ── slot (12 of its bits) ── table[slot] ──▶ node
//!                                       └ of all nodes the one with the highest score for the slot
//! ```
//!
//! Every node that sees the same members finds the same owner, without a word between them. Of n + 1
//! nodes each has 1 / (n + 1) of the slots; one that joins takes its part from all the others, and
//! nothing moves among those. A node keeps its slots over a restart: its address counts, not its
//! generation.
//!
//! **Which identity owns a request:** that of its `Authorization` header; for a webhook's or an
//! interaction's token in the path, that token's; without either, it is counted for the address it is
//! sent from and belongs to the node that took it
//! ([`counts_for_address`](crate::route::key::counts_for_address)).
//!
//! **Cost.** A lookup is a shift, a mask and a load from a table of 4 KiB. The table is made anew
//! with each change of members: 4,096 scores a node, 0.1 ms for nine.

use super::member::{Member, Node};
use crate::route::slot::{SLOTS, SlotSet, slot_of};

/// Who owns an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner<'a> {
    /// This node.
    Here,
    /// Another one.
    There(&'a Node),
}

/// How often nodes relay a request at the most. One that is relayed comes to a node that is not its owner when
/// either knows less than the other: whoever has just started relays to the few that it has heard of, and
/// whoever has just let bots go is asked for them. So it goes on to the owner; and once more from there,
/// since a node that leaves knows so first. The third serves it, whatever that node believes: no request goes
/// round in circles.
pub const RELAYS_MAX: u8 = 3;

/// Where a request is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course<T> {
    /// Here.
    Here,
    /// Here, though it is another node's: with [care](super::told::Told::care).
    HereWithCare,
    /// By its owner.
    There(T),
}

impl<T> Course<T> {
    /// Of a request that was relayed so often, and whose owner is this other node, if any.
    pub fn of(owner: Option<T>, relays: u8) -> Self {
        match owner {
            None => Self::Here,
            Some(_) if relays >= RELAYS_MAX => Self::HereWithCare,
            Some(owner) => Self::There(owner),
        }
    }
}

/// The owners of all slots among certain nodes, as one of them sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ownership {
    nodes: Box<[Node]>,
    me: usize,
    /// This node leaves: it owns nothing as long as there is another.
    leaves: bool,
    /// Places in `nodes`.
    table: Box<[u8; SLOTS]>,
}

impl Ownership {
    /// As this member sees it.
    pub fn of(member: &Member) -> Self {
        Self::share_out(member.live(), member.me(), member.has_left())
    }

    /// Shares the slots out among `nodes` and `me`, as `me` sees it. Nodes past the 255th are left out.
    pub fn new(nodes: &[Node], me: &Node) -> Self {
        Self::share_out(nodes, me, false)
    }

    /// The same while `me` leaves: it gets nothing, unless there is no other.
    pub fn leaving(nodes: &[Node], me: &Node) -> Self {
        Self::share_out(nodes, me, true)
    }

    /// The same without one of the others.
    pub fn without(&self, node: &Node) -> Self {
        let mut left = self.nodes.to_vec();
        left.retain(|other| other != node);
        Self::share_out(&left, self.me(), self.leaves)
    }

    fn share_out(nodes: &[Node], me: &Node, leaves: bool) -> Self {
        let others = nodes.iter().filter(|node| node.addr != me.addr);
        let mut nodes: Vec<Node> = others.take(usize::from(u8::MAX) - 1).copied().collect();
        let is_passed_over = leaves && !nodes.is_empty();
        nodes.push(*me);
        nodes.sort_unstable_by_key(|node| node.addr);
        nodes.dedup_by_key(|node| node.addr);
        let me = nodes.partition_point(|node| node.addr < me.addr);
        let names: Vec<u64> = nodes.iter().map(name).collect();
        let mut table = Box::new([0; SLOTS]);
        for (slot, place) in table.iter_mut().enumerate() {
            let scores = names.iter().enumerate();
            let scores = scores.filter(|(index, _)| !is_passed_over || *index != me);
            let best = scores.max_by_key(|(_, name)| score(slot as u64, **name));
            *place = best.map_or(0, |(index, _)| index as u8);
        }
        Self {
            nodes: nodes.into(),
            me,
            leaves,
            table,
        }
    }

    /// Who owns this identity ([`BucketKey::identity`](crate::route::BucketKey::identity)).
    #[inline]
    pub fn owner(&self, identity: u64) -> Owner<'_> {
        // A slot is always within the table.
        let place = self.table[usize::from(slot_of(identity)) % SLOTS];
        if usize::from(place) == self.me {
            Owner::Here
        } else {
            self.nodes
                .get(usize::from(place))
                .map_or(Owner::Here, Owner::There)
        }
    }

    /// Whether this node is the only one.
    pub const fn is_alone(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The nodes, by address, this one included.
    pub const fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// This node.
    pub fn me(&self) -> &Node {
        &self.nodes[self.me]
    }

    /// The slots of the node at this address.
    pub fn slots_of(&self, node: &Node) -> SlotSet {
        let place = self.nodes.iter().position(|n| n.addr == node.addr);
        let mut set = SlotSet::EMPTY;
        if let Some(place) = place {
            let theirs = self.table.iter().enumerate();
            let theirs = theirs.filter(|(_, owner)| usize::from(**owner) == place);
            theirs.for_each(|(slot, _)| set.insert(slot as u16));
        }
        set
    }

    /// What changes hands when `self` takes the place of `before`.
    pub fn moves_since(&self, before: &Self) -> Moves {
        let mut moves = Moves {
            lost: Vec::new(),
            gained: SlotSet::EMPTY,
        };
        for slot in 0..SLOTS {
            let (old, new) = (before.owner_of(slot), self.owner_of(slot));
            if old.addr == new.addr {
                continue;
            }
            if old.addr == before.me().addr {
                match moves.lost.iter_mut().find(|(node, _)| node == new) {
                    Some((_, set)) => set.insert(slot as u16),
                    None => moves.lost.push((*new, [slot as u16].into_iter().collect())),
                }
            } else if new.addr == self.me().addr {
                moves.gained.insert(slot as u16);
            }
        }
        moves
    }

    fn owner_of(&self, slot: usize) -> &Node {
        &self.nodes[usize::from(self.table[slot])]
    }
}

/// Slots that change hands, as one node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moves {
    /// To whom this node has to hand over what it knows of which slots.
    pub lost: Vec<(Node, SlotSet)>,
    /// What this node owns now and did not before.
    pub gained: SlotSet,
}

/// What a node is called in the lottery: its address, hashed the same everywhere.
fn name(node: &Node) -> u64 {
    let (high, low) = match node.addr.ip() {
        std::net::IpAddr::V4(ip) => (0, u64::from(ip.to_bits())),
        std::net::IpAddr::V6(ip) => ((ip.to_bits() >> 64) as u64, ip.to_bits() as u64),
    };
    let port = u64::from(node.addr.port());
    let family = u64::from(node.addr.is_ipv6()) << 16;
    scramble(scramble(scramble(high) ^ low) ^ port ^ family)
}

/// A node's claim to a slot.
const fn score(slot: u64, name: u64) -> u64 {
    scramble(scramble(slot ^ 0x9e37_79b9_7f4a_7c15) ^ name)
}

/// A bijection that leaves no pattern (the finish of splitmix64).
const fn scramble(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
