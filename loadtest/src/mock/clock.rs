//! The mock's time: nanoseconds since it started, and the server's wall clock with its skew.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock whose wall time moves with the monotonic one, however the host's clock is set.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    unix_origin_ns: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_origin_ns = u64::try_from(since.as_nanos()).unwrap_or(0);
        Self {
            origin: Instant::now(),
            unix_origin_ns,
        }
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Unix nanoseconds of `now_ns` on a clock that is `skew_ms` ahead.
    pub fn unix_ns(&self, now_ns: u64, skew_ms: i64) -> u64 {
        (self.unix_origin_ns + now_ns).saturating_add_signed(skew_ms.saturating_mul(1_000_000))
    }
}

/// A moment in the calendar, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Civil {
    year: u64,
    month: usize,
    day: u64,
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

/// Days from civil, turned round (Howard Hinnant's algorithm), for days since 1970.
fn civil(unix_s: u64) -> Civil {
    let (days, rest) = (unix_s / 86_400, unix_s % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    Civil {
        year: yoe + era * 400 + u64::from(month <= 2),
        month: month as usize,
        day: doy - (153 * mp + 2) / 5 + 1,
        weekday: ((days + 4) % 7) as usize,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
    }
}

/// An HTTP date (RFC 9110, 5.6.7).
pub fn http_date(unix_s: u64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let c = civil(unix_s);
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        DAYS[c.weekday],
        c.day,
        MONTHS[c.month - 1],
        c.year,
        c.hour,
        c.minute,
        c.second
    )
}

/// A timestamp as Discord's objects carry it (ISO 8601 with microseconds and offset).
pub fn iso_date(unix_ms: u64) -> String {
    let c = civil(unix_ms / 1000);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}000+00:00",
        c.year,
        c.month,
        c.day,
        c.hour,
        c.minute,
        c.second,
        unix_ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(
            iso_date(1_420_070_400_007),
            "2015-01-01T00:00:00.007000+00:00"
        );
    }

    #[test]
    fn skew_moves_the_wall_clock_both_ways() {
        let clock = Clock {
            origin: Instant::now(),
            unix_origin_ns: 10_000_000_000,
        };
        assert_eq!(clock.unix_ns(5, 2000), 12_000_000_005);
        assert_eq!(clock.unix_ns(5, -2000), 8_000_000_005);
    }
}
