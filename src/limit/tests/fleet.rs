//! A fleet of which some tokens are dead, some webhooks gone and some permissions missing: the
//! address stays far from its ban, and the rest of the fleet does not notice.

use super::*;

/// Time goes in steps; an answer comes one step after its request.
const STEP_MS: u64 = 50;
const BOTS: u64 = 100;
const MINUTES: u64 = 25;
/// The route without any permission, for every bot that uses it.
const FORBIDDEN: u64 = 50;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lot {
    Healthy,
    DeadToken,
    /// Asks the same twenty channels again and again.
    Missing,
    /// Asks another channel each time: a campaign to users who do not want it.
    Campaign,
    DeadWebhook,
    BadWebhook,
}

struct Fleet {
    limiter: Local,
    out: Outputs,
    now: Instant,
    /// Whether `Output::Confirm` is answered.
    confirms: bool,
    under_way: VecDeque<(Permit, Lot)>,
    waiting: std::collections::HashMap<u32, Lot>,
    slot: u32,
    /// The times of invalid answers.
    invalid: VecDeque<Instant>,
    invalid_most: usize,
    asked: u64,
    served: u64,
    by_lot: std::collections::BTreeMap<u8, u64>,
    refusals: Vec<(BucketKey, ClientClass, Refusal)>,
}

impl Fleet {
    fn new(confirms: bool, settings: &Settings) -> Self {
        Self {
            limiter: Limiter::new(settings, 2),
            out: Outputs::new(),
            now: ms(1000),
            confirms,
            under_way: VecDeque::new(),
            waiting: std::collections::HashMap::new(),
            slot: 0,
            invalid: VecDeque::new(),
            invalid_most: 0,
            asked: 0,
            served: 0,
            by_lot: std::collections::BTreeMap::new(),
            refusals: Vec::new(),
        }
    }

    fn ask(&mut self, lot: Lot, identity: u64, major: u64, route: u64) {
        self.slot += 1;
        let webhook = matches!(lot, Lot::DeadWebhook | Lot::BadWebhook);
        let client = if webhook {
            ClientClass::Webhook { id: None }
        } else {
            ClientClass::Bot {
                user_id: Some(identity),
            }
        };
        let ask = Ask {
            key: BucketKey {
                identity,
                major,
                route,
            },
            client,
            counts_globally: !webhook,
            ..ask(self.slot, route)
        };
        self.asked += u64::from(lot == Lot::Healthy);
        match self.limiter.acquire(self.now, &ask, &mut self.out) {
            Decision::Go(permit) => self.under_way.push_back((permit, lot)),
            Decision::Wait => {
                self.waiting.insert(self.slot, lot);
            }
            Decision::Refuse(refusal) => {
                assert!(lot != Lot::Healthy, "{refusal:?}");
                assert!(refusal.retry_after > Duration::ZERO);
                if self.refusals.len() < 50_000 {
                    self.refusals.push((ask.key, client, refusal));
                }
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Go { ticket, permit } => {
                    let lot = self.waiting.remove(&ticket.slot).unwrap();
                    self.under_way.push_back((permit, lot));
                }
                Output::Refuse { ticket, .. } => {
                    let lot = self.waiting.remove(&ticket.slot).unwrap();
                    assert!(lot != Lot::Healthy);
                }
                Output::Deadline { .. } => {}
                Output::Confirm { identity, .. } => {
                    if self.confirms {
                        self.invalid.push_back(self.now);
                        self.limiter.confirmed(self.now, identity, false);
                    }
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(STEP_MS);
        for _ in 0..self.under_way.len() {
            let (permit, lot) = self.under_way.pop_front().unwrap();
            let answer = self.answer(lot, permit.key().route);
            self.limiter
                .report(self.now, permit, &answer, &mut self.out);
            self.drain();
        }
        for shard in 0..2 {
            self.limiter.tick(self.now, shard, &mut self.out);
            self.limiter.next_deadline(shard);
        }
        self.drain();
        let old = |at: &Instant| *at + Duration::from_secs(600) <= self.now;
        while self.invalid.front().is_some_and(old) {
            self.invalid.pop_front();
        }
        self.invalid_most = self.invalid_most.max(self.invalid.len());
    }

    fn answer(&mut self, lot: Lot, route: u64) -> Answer {
        let (status, code) = match lot {
            Lot::Healthy => (200, 0),
            Lot::DeadToken => (401, 0),
            Lot::Missing | Lot::Campaign if route == FORBIDDEN => (403, 50_013),
            Lot::Missing | Lot::Campaign => (200, 0),
            Lot::DeadWebhook => (404, 10_015),
            Lot::BadWebhook => (401, 50_027),
        };
        self.served += u64::from(lot == Lot::Healthy);
        *self.by_lot.entry(lot as u8).or_default() += u64::from(matches!(status, 401 | 403 | 404));
        if matches!(status, 401 | 403) {
            self.invalid.push_back(self.now);
        }
        let mut answer = plain(status);
        if code > 0 {
            answer.error_body(format!("{{\"code\": {code}}}").as_bytes());
        }
        answer
    }

    /// A fleet at work. Asks of it go on at the same pace whatever it is told.
    fn run(&mut self) {
        for step in 0..MINUTES * 60_000 / STEP_MS {
            for bot in 0..BOTS {
                // A request a second from each, and one in five of those with troubles.
                let turn = (step + bot) % 20;
                let lot = match bot {
                    0..5 => Lot::DeadToken,
                    5..15 => Lot::Missing,
                    15..20 => Lot::Campaign,
                    _ => Lot::Healthy,
                };
                match lot {
                    Lot::DeadToken if turn % 2 == 0 => self.ask(lot, bot, step % 7, 1),
                    Lot::Missing if turn % 4 == 0 => {
                        self.ask(lot, bot, 1_000 + step % 20, FORBIDDEN);
                    }
                    Lot::Campaign if turn % 2 == 1 => {
                        self.ask(lot, bot, 10_000 + step, FORBIDDEN);
                    }
                    _ => {}
                }
                let own = matches!(lot, Lot::Healthy | Lot::Missing | Lot::Campaign);
                if own && turn == 3 {
                    self.ask(Lot::Healthy, bot, step % 3, 2);
                }
            }
            if step % 4 == 0 {
                self.ask(Lot::DeadWebhook, 500 + step % 10, step % 10, 3);
                self.ask(Lot::BadWebhook, 600 + step % 10, step % 10, 3);
            }
            self.step();
        }
        println!(
            "at most {} invalid requests in ten minutes; {} of {} served; by lot {:?}",
            self.invalid_most, self.served, self.asked, self.by_lot
        );
    }

    fn check(&self) {
        assert!(self.invalid_most < 9_500, "{}", self.invalid_most);
        // All but what is under way.
        assert!(
            self.served + BOTS >= self.asked,
            "{} {}",
            self.served,
            self.asked
        );
        let webhooks = self.by_lot[&(Lot::DeadWebhook as u8)];
        assert!(webhooks <= 20, "dead webhooks are remembered: {webhooks}");
    }
}

#[test]
fn a_fleet_with_dead_tokens_webhooks_and_missing_permissions_stays_far_from_the_ban() {
    for confirms in [true, false] {
        let mut fleet = Fleet::new(confirms, &Settings::default());
        fleet.run();
        fleet.check();
        let dead = fleet.by_lot[&(Lot::DeadToken as u8)];
        let most = if confirms { 5 * 12 } else { 5 * 25 };
        assert!(dead <= most, "{dead} requests of 5 dead tokens, {confirms}");
    }
}

#[test]
fn even_with_the_401_lock_disabled_the_fleet_stays_below_the_budget() {
    let settings = Settings {
        disable_401_lock: true,
        ..Settings::default()
    };
    let mut fleet = Fleet::new(false, &settings);
    fleet.run();
    fleet.check();
}

#[test]
fn refusals_of_offenders_tell_when_they_may_ask_again() {
    let mut fleet = Fleet::new(true, &Settings::default());
    fleet.run();
    let (mut forbidden, mut shares) = (0, 0);
    for (key, client, refusal) in fleet.refusals.split_off(fleet.refusals.len() - 3_000) {
        // Time stands still but for this one; nothing else happens to the offender meanwhile.
        let at = fleet.now + refusal.retry_after;
        forbidden += u32::from(refusal.reason == Reason::Forbidden);
        shares += u32::from(refusal.reason == Reason::Share);
        let again = Ask {
            key,
            client,
            max_wait: None,
            ..ask(1, 1)
        };
        if matches!(refusal.reason, Reason::Forbidden | Reason::Share) {
            let guards = fleet
                .limiter
                .guards
                .with(|guards| guards.refuses(at, &again));
            assert_eq!(guards, None, "{refusal:?}");
        }
    }
    assert!(forbidden + shares > 0, "{forbidden} {shares}");
}

/// A limiter that has seen a tenth of the budget spent, by strangers.
fn wary() -> (Local, Outputs) {
    let (limiter, mut out) = (limiter(), Outputs::new());
    for n in 0..950 {
        let mut stranger = Ask {
            client: ClientClass::Webhook { id: None },
            counts_globally: false,
            ..ask(1, 1)
        };
        stranger.key.identity = 10_000 + n;
        let permit = go(limiter.acquire(ms(1000), &stranger, &mut out));
        limiter.report(ms(1000), permit, &plain(403), &mut out);
    }
    while out.pop().is_some() {}
    (limiter, out)
}

fn of(slot: u32, major: u64) -> Ask {
    let mut ask = ask(slot, 1);
    ask.key.major = major;
    ask
}

#[test]
fn a_doubtful_token_s_requests_go_one_at_a_time() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let first = go(limiter.acquire(ms(1000), &of(1, 1), &mut out));
    limiter.report(ms(1040), first, &plain(401), &mut out);
    while out.pop().is_some() {}
    let second = go(limiter.acquire(ms(1050), &of(2, 2), &mut out));
    assert!(matches!(
        limiter.acquire(ms(1050), &of(3, 3), &mut out),
        Decision::Wait
    ));
    limiter.report(ms(1090), second, &plain(200), &mut out);
    assert_eq!(goes(&mut out).len(), 1);
    let _fourth = go(limiter.acquire(ms(1090), &of(4, 4), &mut out));
}

#[test]
fn a_token_that_never_worked_goes_a_few_at_a_time_while_the_budget_shrinks() {
    let (limiter, mut out) = wary();
    let mut permits: Vec<Permit> = (1..=3)
        .map(|n| go(limiter.acquire(ms(1000), &of(n, u64::from(n)), &mut out)))
        .collect();
    for n in 4..8 {
        assert!(matches!(
            limiter.acquire(ms(1000), &of(n, u64::from(n)), &mut out),
            Decision::Wait
        ));
    }
    limiter.report(ms(1040), permits.remove(0), &plain(200), &mut out);
    assert_eq!(goes(&mut out).len(), 4);
}

#[test]
fn a_forbidden_route_refuses_before_anybody_queues() {
    let (limiter, mut out) = wary();
    for _ in 0..3 {
        let permit = go(limiter.acquire(ms(1000), &of(1, 1), &mut out));
        limiter.report(ms(1000), permit, &plain(403), &mut out);
    }
    // The lane is busy: whoever asks would wait.
    let mut other = of(2, 1);
    other.key.route = 2;
    let _busy = go(limiter.acquire(ms(1000), &other, &mut out));
    let refusal = refused(limiter.acquire(ms(1000), &of(3, 1), &mut out));
    let second = Duration::from_secs(1);
    assert_eq!(
        (refusal.reason, refusal.retry_after),
        (Reason::Forbidden, second)
    );
}

#[test]
fn the_refused_question_about_a_token_counts_as_an_invalid_request() {
    let limiter = limiter();
    limiter.confirmed(ms(1000), 1, false);
    limiter.confirmed(ms(1000), 1, true);
    assert_eq!(limiter.census(ms(1000)).invalid, 1);
}
