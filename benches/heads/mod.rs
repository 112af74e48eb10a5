//! Heads as they go through weir every day: discord.py's requests, and Discord's answers through
//! Cloudflare. Names and order of the lines, and the lengths of their values, are the real ones;
//! tokens and cookies are made up.

/// A request that reads a message of `channel`.
pub(crate) fn get(channel: u64) -> Vec<u8> {
    let target = format!("/api/v10/channels/{channel}/messages/1103049420930568322");
    request("GET", &target, "")
}

/// A request that writes [`BODY`] into `channel`; its body follows the head.
pub(crate) fn post(channel: u64) -> Vec<u8> {
    let target = format!("/api/v10/channels/{channel}/messages");
    let length = BODY.len();
    let lines = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    let mut bytes = request("POST", &target, &lines);
    bytes.extend_from_slice(BODY);
    bytes
}

/// A message as a bot writes it.
pub(crate) const BODY: &[u8] = br#"{"content":"The build of main has finished: 412 passed, 0 failed.","tts":false,"embeds":[],"allowed_mentions":{"parse":[]},"components":[]}"#;

fn request(method: &str, target: &str, lines: &str) -> Vec<u8> {
    format!(
        "{method} {target} HTTP/1.1\r\n\
         Host: 10.0.0.1:8080\r\n\
         User-Agent: DiscordBot (https://github.com/Rapptz/discord.py 2.4.0) Python/3.12 aiohttp/3.10.5\r\n\
         Authorization: Bot MzkyODI3MTY5NDk3Mjg0NjE5.Gabcde.0123456789abcdefghijklmnopqrstuvwxyzAB\r\n\
         Accept: */*\r\n\
         Accept-Encoding: gzip, deflate, br\r\n\
         {lines}\r\n"
    )
    .into_bytes()
}

/// What of an answer's limits differs from one to the next. Its bucket is 5 in 5 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `X-RateLimit-Remaining`.
    pub(crate) remaining: u16,
    /// `X-RateLimit-Reset`, in Unix milliseconds.
    pub(crate) reset_ms: u64,
}

/// The answer to either request, with a body of 300 bytes.
pub(crate) fn answer(limits: Limits) -> Vec<u8> {
    let Limits {
        remaining,
        reset_ms,
    } = limits;
    let (seconds, millis) = (reset_ms / 1_000, reset_ms % 1_000);
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\n\
         Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: application/json\r\n\
         Content-Length: 300\r\n\
         Connection: keep-alive\r\n\
         set-cookie: __dcfduid=0a4bf1b0d5b111f08b8b0242ac110003; Expires=Tue, 31-Dec-2030 00:00:00 GMT; Max-Age=157680000; Secure; HttpOnly; Path=/; SameSite=Lax\r\n\
         strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n\
         x-ratelimit-bucket: 80c17d2f203122d936070c88c8d10f33\r\n\
         x-ratelimit-limit: 5\r\n\
         x-ratelimit-remaining: {remaining}\r\n\
         x-ratelimit-reset: {seconds}.{millis:03}\r\n\
         x-ratelimit-reset-after: 5.000\r\n\
         vary: Accept-Encoding\r\n\
         via: 1.1 google\r\n\
         alt-svc: h3=\":443\"; ma=86400\r\n\
         CF-Cache-Status: DYNAMIC\r\n\
         Report-To: {{\"endpoints\":[{{\"url\":\"https:\\/\\/a.nel.cloudflare.com\\/report\\/v4?s=0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijkl%3D\"}}],\"group\":\"cf-nel\",\"max_age\":604800}}\r\n\
         NEL: {{\"success_fraction\":0,\"report_to\":\"cf-nel\",\"max_age\":604800}}\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Reporting-Endpoints: csp-sentry=\"https://o64374.ingest.sentry.io/api/5441894/security/?sentry_key=8fbbce30bf5244ec9429546beef21870\"\r\n\
         Content-Security-Policy: frame-ancestors 'none'; default-src 'none'\r\n\
         set-cookie: _cfuvid=0123456789abcdefghijklmnopqrstuvwxyz0123456-1767225600000-0.0.1.1-604800000; path=/; domain=.discord.com; HttpOnly; Secure; SameSite=None\r\n\
         Server: cloudflare\r\n\
         CF-RAY: 9b6f0123456789ab-FRA\r\n\
         \r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + 300, b' ');
    bytes
}
