# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_weir_global_optspecs
    string join \n env-file= bind-ip= port= allow-from= tls-cert-file= tls-key-file= tls-client-ca-file= max-connections= max-connections-per-client= client-header-timeout= client-idle-timeout= client-min-rate= upstream-url= upstream-ca-file= outbound-ip= request-timeout= upstream-max-connections= upstream-idle-timeout= bot-ratelimit-overrides= disable-global-ratelimit-detection= disable-401-lock= retries= retry-shared= max-wait= allow-concurrent-requests= default-bucket= default-buckets= max-waiting-per-bucket= max-waiting= max-buckets= max-bearer-count= gateway-queue-port= discord-token= gateway-queue-max-waiting= gateway-queue-max-waiting-per-bot= gateway-queue-max-bots= cluster-members= cluster-dns= cluster-port= cluster-secret= cluster-ca-file= cluster-tls-name= dprl-port= forward-port= forward-bind-ip= dprl-max-connections= forward-max-connections= forward-host-limits= forward-reject-status= forward-queue-timeout= forward-allow= forward-deny= forward-credentials-file= forward-connect-timeout= forward-idle-timeout= forward-max-clients= redis-addr= redis-username= redis-password= redis-db= redis-fail= redis-max-lifetime= redis-timeout= redis-scan-interval= workers= io-driver= shutdown-timeout= core-dumps= state-file= log-level= log-format= access-log= enable-metrics= metrics-port= admin-token= buffer-size= disable-http-2= enable-pprof= h/help V/version
end

function __fish_weir_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_weir_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_weir_using_subcommand
    set -l cmd (__fish_weir_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c weir -n "__fish_weir_needs_command" -l env-file -d 'File with settings, a NAME=value on each line, to read in place of .env in the working directory' -r -F
complete -c weir -n "__fish_weir_needs_command" -l bind-ip -d 'Address to serve clients and metrics on [env: BIND_IP] [default: 0.0.0.0]' -r
complete -c weir -n "__fish_weir_needs_command" -l port -d 'Port for clients; 0 takes a free one [env: PORT] [default: 8080]' -r
complete -c weir -n "__fish_weir_needs_command" -l allow-from -d 'Addresses and networks that may connect, separated by commas; unset, all [env: ALLOW_FROM]' -r
complete -c weir -n "__fish_weir_needs_command" -l tls-cert-file -d 'PEM file with the certificate to show clients, and its chain; unset, plain HTTP is spoken [env: TLS_CERT_FILE]' -r
complete -c weir -n "__fish_weir_needs_command" -l tls-key-file -d 'PEM file with the private key of TLS_CERT_FILE [env: TLS_KEY_FILE]' -r
complete -c weir -n "__fish_weir_needs_command" -l tls-client-ca-file -d 'PEM file with the authorities that must have signed a client\'s certificate; unset, none is asked for [env: TLS_CLIENT_CA_FILE]' -r
complete -c weir -n "__fish_weir_needs_command" -l max-connections -d 'Client connections at a time; more are refused [env: MAX_CONNECTIONS] [default: 65536]' -r
complete -c weir -n "__fish_weir_needs_command" -l max-connections-per-client -d 'Client connections from one address (of IPv6, one /64); more are refused; 0 for no bound [env: MAX_CONNECTIONS_PER_CLIENT] [default: 0]' -r
complete -c weir -n "__fish_weir_needs_command" -l client-header-timeout -d 'Milliseconds a client has to send a request\'s head, and to begin its first one [env: CLIENT_HEADER_TIMEOUT] [default: 10000]' -r
complete -c weir -n "__fish_weir_needs_command" -l client-idle-timeout -d 'Milliseconds a client\'s connection may be silent between requests, or a body make no progress [env: CLIENT_IDLE_TIMEOUT] [default: 75000]' -r
complete -c weir -n "__fish_weir_needs_command" -l client-min-rate -d 'Bytes a second that a client sends of a body and takes of an answer at the least; who falls behind by CLIENT_IDLE_TIMEOUT is cut off; 0 for no bound [env: CLIENT_MIN_RATE] [default: 1024]' -r
complete -c weir -n "__fish_weir_needs_command" -l upstream-url -d 'Where requests go [env: UPSTREAM_URL] [default: https://discord.com]' -r
complete -c weir -n "__fish_weir_needs_command" -l upstream-ca-file -d 'PEM file with the only certificates to trust for the upstream, instead of Mozilla\'s [env: UPSTREAM_CA_FILE]' -r
complete -c weir -n "__fish_weir_needs_command" -l outbound-ip -d 'Local address to connect to the upstream from [env: OUTBOUND_IP]' -r
complete -c weir -n "__fish_weir_needs_command" -l request-timeout -d 'Milliseconds the upstream has to answer; the time waiting for a limit is not in it [env: REQUEST_TIMEOUT] [default: 5000]' -r
complete -c weir -n "__fish_weir_needs_command" -l upstream-max-connections -d 'Upstream connections of each worker [env: UPSTREAM_MAX_CONNECTIONS] [default: 512]' -r
complete -c weir -n "__fish_weir_needs_command" -l upstream-idle-timeout -d 'Milliseconds an unused upstream connection is kept [env: UPSTREAM_IDLE_TIMEOUT] [default: 60000]' -r
complete -c weir -n "__fish_weir_needs_command" -l bot-ratelimit-overrides -d 'Global limits of bots, as user id:requests a second, separated by commas [env: BOT_RATELIMIT_OVERRIDES]' -r
complete -c weir -n "__fish_weir_needs_command" -l disable-global-ratelimit-detection -d 'Never ask /gateway/bot for a bot\'s global limit [env: DISABLE_GLOBAL_RATELIMIT_DETECTION] [default: false]' -r
complete -c weir -n "__fish_weir_needs_command" -l disable-401-lock -d 'Go on sending for a token that Discord refused [env: DISABLE_401_LOCK] [default: false]' -r
complete -c weir -n "__fish_weir_needs_command" -l retries -d 'How often a request that Discord answered with 429 is sent again; 0 passes every answer on [env: RETRIES] [default: 1]' -r
complete -c weir -n "__fish_weir_needs_command" -l retry-shared -d 'Send again, beyond RETRIES, while a limit shared with others refuses [env: RETRY_SHARED] [default: true]' -r
complete -c weir -n "__fish_weir_needs_command" -l max-wait -d 'Milliseconds a request may wait for a limit; 429 at once if it would be longer; 0 for no bound [env: MAX_WAIT] [default: 0]' -r
complete -c weir -n "__fish_weir_needs_command" -l allow-concurrent-requests -d 'Requests that change something need not wait for each other\'s answer; their order is then not kept [env: ALLOW_CONCURRENT_REQUESTS] [default: false]' -r
complete -c weir -n "__fish_weir_needs_command" -l default-bucket -d 'Requests of unknown routes that go at once, for each bot and channel, guild or webhook [env: DEFAULT_BUCKET] [default: 1]' -r
complete -c weir -n "__fish_weir_needs_command" -l default-buckets -d 'Requests of an unknown route that go at once, by route, as METHOD /path=N, separated by commas; ! in a path stands for any id [env: DEFAULT_BUCKETS]' -r
complete -c weir -n "__fish_weir_needs_command" -l max-waiting-per-bucket -d 'Requests that may wait for one bucket; more are refused [env: MAX_WAITING_PER_BUCKET] [default: 10000]' -r
complete -c weir -n "__fish_weir_needs_command" -l max-waiting -d 'Requests that may wait in all; more are refused [env: MAX_WAITING] [default: 100000]' -r
complete -c weir -n "__fish_weir_needs_command" -l max-buckets -d 'Buckets that are kept [env: MAX_BUCKETS] [default: 1000000]' -r
complete -c weir -n "__fish_weir_needs_command" -l max-bearer-count -d 'Bearer tokens that are kept track of [env: MAX_BEARER_COUNT] [default: 1024]' -r
complete -c weir -n "__fish_weir_needs_command" -l gateway-queue-port -d 'Port where shards ask when they may IDENTIFY; 0 takes a free one; unset, there is none; in a cluster the same at all nodes, which ask each other there [env: GATEWAY_QUEUE_PORT]' -r
complete -c weir -n "__fish_weir_needs_command" -l discord-token -d 'Token of the bot whose shards ask without an Authorization of their own; better not as a flag, which others can see [env: DISCORD_TOKEN]' -r
complete -c weir -n "__fish_weir_needs_command" -l gateway-queue-max-waiting -d 'Shards that wait to IDENTIFY; more are refused [env: GATEWAY_QUEUE_MAX_WAITING] [default: 65536]' -r
complete -c weir -n "__fish_weir_needs_command" -l gateway-queue-max-waiting-per-bot -d 'The same for one bot [env: GATEWAY_QUEUE_MAX_WAITING_PER_BOT] [default: 16384]' -r
complete -c weir -n "__fish_weir_needs_command" -l gateway-queue-max-bots -d 'Bots that are kept track of there; one that nobody waits for makes room for another [env: GATEWAY_QUEUE_MAX_BOTS] [default: 1024]' -r
complete -c weir -n "__fish_weir_needs_command" -l cluster-members -d 'Nodes to form a cluster with, separated by commas, each with a port if it is not CLUSTER_PORT [env: CLUSTER_MEMBERS]' -r
complete -c weir -n "__fish_weir_needs_command" -l cluster-dns -d 'Name that resolves to the nodes of the cluster, looked up again every 2 s while this node is alone and every 30 s otherwise [env: CLUSTER_DNS]' -r
complete -c weir -n "__fish_weir_needs_command" -l cluster-port -d 'UDP and TCP port that nodes of a cluster talk on, and that of members named without one; 0 takes a free one [env: CLUSTER_PORT] [default: 7654]' -r
complete -c weir -n "__fish_weir_needs_command" -l cluster-secret -d 'What proves to the others that a node is one of them, the same for all; better not given as a flag, which others can see [env: CLUSTER_SECRET]' -r
complete -c weir -n "__fish_weir_needs_command" -l cluster-ca-file -d 'PEM file with the authorities that must have signed the certificates of other nodes [env: CLUSTER_CA_FILE]' -r
complete -c weir -n "__fish_weir_needs_command" -l cluster-tls-name -d 'Host name that the certificates of all nodes carry; unset, each node\'s carries its address [env: CLUSTER_TLS_NAME]' -r
complete -c weir -n "__fish_weir_needs_command" -l dprl-port -d 'The same as FORWARD_PORT, which holds where both are set [env: DPRL_PORT]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-port -d 'Port of the forward proxy; 0 takes a free one; unset, there is none [env: FORWARD_PORT]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-bind-ip -d 'Address to serve the forward proxy on [env: FORWARD_BIND_IP] [default: 127.0.0.1]' -r
complete -c weir -n "__fish_weir_needs_command" -l dprl-max-connections -d 'The same as FORWARD_MAX_CONNECTIONS, which holds where both are set [env: DPRL_MAX_CONNECTIONS] [default: 0]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-max-connections -d 'Connections to each host at a time; 0 for no limit [env: FORWARD_MAX_CONNECTIONS] [default: 0]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-host-limits -d 'The same for single hosts, as host=N, separated by commas; 0 frees a host of the limit of all [env: FORWARD_HOST_LIMITS]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-reject-status -d 'What a client beyond the limit is told: 500, as dprl, or 503 with Retry-After [env: FORWARD_REJECT_STATUS] [default: 500]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-queue-timeout -d 'Milliseconds that a client beyond the limit waits for its turn before it is told so; 0 for no waiting [env: FORWARD_QUEUE_TIMEOUT] [default: 0]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-allow -d 'The only hosts and networks that may be reached, separated by commas; unset, all with a public address [env: FORWARD_ALLOW]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-deny -d 'Hosts and networks that may not be reached, separated by commas [env: FORWARD_DENY]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-credentials-file -d 'File of those who may use the forward proxy, user:password on each line; unset, whoever may connect [env: FORWARD_CREDENTIALS_FILE]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-connect-timeout -d 'Milliseconds for looking a host up and connecting to it [env: FORWARD_CONNECT_TIMEOUT] [default: 10000]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-idle-timeout -d 'Milliseconds that a tunnel may be silent [env: FORWARD_IDLE_TIMEOUT] [default: 300000]' -r
complete -c weir -n "__fish_weir_needs_command" -l forward-max-clients -d 'Client connections of the forward proxy [env: FORWARD_MAX_CLIENTS] [default: 16384]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-addr -d 'Redis that forward proxies share their caps through; unset, each counts for itself [env: REDIS_ADDR]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-username -d 'User of Redis\' ACL; unset, its default one [env: REDIS_USERNAME]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-password -d 'Password for Redis [env: REDIS_PASSWORD]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-db -d 'Database in Redis; unset, the one that REDIS_ADDR names, or 0 [env: REDIS_DB]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-fail -d 'New connections while Redis is away: closed for none, open for any, local for an even share of each cap [env: REDIS_FAIL] [default: local]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-max-lifetime -d 'Milliseconds after which Redis forgets what a proxy that crashed had open; open connections are renewed [env: REDIS_MAX_LIFETIME] [default: 60000]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-timeout -d 'Milliseconds Redis has to answer; then it counts as away [env: REDIS_TIMEOUT] [default: 500]' -r
complete -c weir -n "__fish_weir_needs_command" -l redis-scan-interval -d 'Milliseconds between looks for proxies of dprl in the fleet; 0 if there are none [env: REDIS_SCAN_INTERVAL] [default: 5000]' -r
complete -c weir -n "__fish_weir_needs_command" -l workers -d 'Threads that serve; unset, one for each core that is available [env: WORKERS]' -r
complete -c weir -n "__fish_weir_needs_command" -l io-driver -d 'What to wait for the kernel with; auto takes io_uring where it is granted [env: IO_DRIVER] [default: auto]' -r
complete -c weir -n "__fish_weir_needs_command" -l shutdown-timeout -d 'Milliseconds that exchanges may take to finish once weir was told to stop [env: SHUTDOWN_TIMEOUT] [default: 30000]' -r
complete -c weir -n "__fish_weir_needs_command" -l core-dumps -d 'Let a crash leave a core dump and a panic\'s words in the log, in which tokens may be, and debuggers of the same user look in [env: CORE_DUMPS] [default: false]' -r
complete -c weir -n "__fish_weir_needs_command" -l state-file -d 'File that keeps what was learned over a restart; unset, it is learned anew [env: STATE_FILE]' -r
complete -c weir -n "__fish_weir_needs_command" -l log-level -d 'How much to log: error, warn, info, debug or trace [env: LOG_LEVEL] [default: info]' -r
complete -c weir -n "__fish_weir_needs_command" -l log-format -d 'How to log: text, or json with one object a line [env: LOG_FORMAT] [default: text]' -r
complete -c weir -n "__fish_weir_needs_command" -l access-log -d 'Which requests get a line on stdout: off, all, errors, a fraction such as 0.01, or errors,0.01 [env: ACCESS_LOG] [default: off]' -r
complete -c weir -n "__fish_weir_needs_command" -l enable-metrics -d 'Serve Prometheus metrics [env: ENABLE_METRICS] [default: true]' -r
complete -c weir -n "__fish_weir_needs_command" -l metrics-port -d 'Port of /metrics; 0 takes a free one [env: METRICS_PORT] [default: 9000]' -r
complete -c weir -n "__fish_weir_needs_command" -l admin-token -d 'What a request to change the running weir must carry; unset, whoever is on this machine may; better not as a flag, which others can see [env: ADMIN_TOKEN]' -r
complete -c weir -n "__fish_weir_needs_command" -l buffer-size -d 'Requests in a queue\'s channel [env: BUFFER_SIZE]' -r
complete -c weir -n "__fish_weir_needs_command" -l disable-http-2 -d 'No HTTP/2 towards Discord [env: DISABLE_HTTP_2]' -r
complete -c weir -n "__fish_weir_needs_command" -l enable-pprof -d 'Go\'s profiling endpoint [env: ENABLE_PPROF]' -r
complete -c weir -n "__fish_weir_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_needs_command" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_needs_command" -f -a "serve" -d 'Serve; the same as no command at all'
complete -c weir -n "__fish_weir_needs_command" -f -a "check" -d 'Look over the settings, reach the upstream step by step, and try what a start needs'
complete -c weir -n "__fish_weir_needs_command" -f -a "status" -d 'Print how a running weir stands, by its metrics port'
complete -c weir -n "__fish_weir_needs_command" -f -a "top" -d 'The same, each second: on a terminal a screen, else a line'
complete -c weir -n "__fish_weir_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c weir -n "__fish_weir_using_subcommand serve" -l env-file -d 'File with settings, a NAME=value on each line, to read in place of .env in the working directory' -r -F
complete -c weir -n "__fish_weir_using_subcommand serve" -l bind-ip -d 'Address to serve clients and metrics on [env: BIND_IP] [default: 0.0.0.0]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l port -d 'Port for clients; 0 takes a free one [env: PORT] [default: 8080]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l allow-from -d 'Addresses and networks that may connect, separated by commas; unset, all [env: ALLOW_FROM]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l tls-cert-file -d 'PEM file with the certificate to show clients, and its chain; unset, plain HTTP is spoken [env: TLS_CERT_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l tls-key-file -d 'PEM file with the private key of TLS_CERT_FILE [env: TLS_KEY_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l tls-client-ca-file -d 'PEM file with the authorities that must have signed a client\'s certificate; unset, none is asked for [env: TLS_CLIENT_CA_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l max-connections -d 'Client connections at a time; more are refused [env: MAX_CONNECTIONS] [default: 65536]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l max-connections-per-client -d 'Client connections from one address (of IPv6, one /64); more are refused; 0 for no bound [env: MAX_CONNECTIONS_PER_CLIENT] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l client-header-timeout -d 'Milliseconds a client has to send a request\'s head, and to begin its first one [env: CLIENT_HEADER_TIMEOUT] [default: 10000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l client-idle-timeout -d 'Milliseconds a client\'s connection may be silent between requests, or a body make no progress [env: CLIENT_IDLE_TIMEOUT] [default: 75000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l client-min-rate -d 'Bytes a second that a client sends of a body and takes of an answer at the least; who falls behind by CLIENT_IDLE_TIMEOUT is cut off; 0 for no bound [env: CLIENT_MIN_RATE] [default: 1024]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l upstream-url -d 'Where requests go [env: UPSTREAM_URL] [default: https://discord.com]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l upstream-ca-file -d 'PEM file with the only certificates to trust for the upstream, instead of Mozilla\'s [env: UPSTREAM_CA_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l outbound-ip -d 'Local address to connect to the upstream from [env: OUTBOUND_IP]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l request-timeout -d 'Milliseconds the upstream has to answer; the time waiting for a limit is not in it [env: REQUEST_TIMEOUT] [default: 5000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l upstream-max-connections -d 'Upstream connections of each worker [env: UPSTREAM_MAX_CONNECTIONS] [default: 512]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l upstream-idle-timeout -d 'Milliseconds an unused upstream connection is kept [env: UPSTREAM_IDLE_TIMEOUT] [default: 60000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l bot-ratelimit-overrides -d 'Global limits of bots, as user id:requests a second, separated by commas [env: BOT_RATELIMIT_OVERRIDES]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l disable-global-ratelimit-detection -d 'Never ask /gateway/bot for a bot\'s global limit [env: DISABLE_GLOBAL_RATELIMIT_DETECTION] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l disable-401-lock -d 'Go on sending for a token that Discord refused [env: DISABLE_401_LOCK] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l retries -d 'How often a request that Discord answered with 429 is sent again; 0 passes every answer on [env: RETRIES] [default: 1]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l retry-shared -d 'Send again, beyond RETRIES, while a limit shared with others refuses [env: RETRY_SHARED] [default: true]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l max-wait -d 'Milliseconds a request may wait for a limit; 429 at once if it would be longer; 0 for no bound [env: MAX_WAIT] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l allow-concurrent-requests -d 'Requests that change something need not wait for each other\'s answer; their order is then not kept [env: ALLOW_CONCURRENT_REQUESTS] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l default-bucket -d 'Requests of unknown routes that go at once, for each bot and channel, guild or webhook [env: DEFAULT_BUCKET] [default: 1]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l default-buckets -d 'Requests of an unknown route that go at once, by route, as METHOD /path=N, separated by commas; ! in a path stands for any id [env: DEFAULT_BUCKETS]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l max-waiting-per-bucket -d 'Requests that may wait for one bucket; more are refused [env: MAX_WAITING_PER_BUCKET] [default: 10000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l max-waiting -d 'Requests that may wait in all; more are refused [env: MAX_WAITING] [default: 100000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l max-buckets -d 'Buckets that are kept [env: MAX_BUCKETS] [default: 1000000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l max-bearer-count -d 'Bearer tokens that are kept track of [env: MAX_BEARER_COUNT] [default: 1024]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l gateway-queue-port -d 'Port where shards ask when they may IDENTIFY; 0 takes a free one; unset, there is none; in a cluster the same at all nodes, which ask each other there [env: GATEWAY_QUEUE_PORT]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l discord-token -d 'Token of the bot whose shards ask without an Authorization of their own; better not as a flag, which others can see [env: DISCORD_TOKEN]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l gateway-queue-max-waiting -d 'Shards that wait to IDENTIFY; more are refused [env: GATEWAY_QUEUE_MAX_WAITING] [default: 65536]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l gateway-queue-max-waiting-per-bot -d 'The same for one bot [env: GATEWAY_QUEUE_MAX_WAITING_PER_BOT] [default: 16384]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l gateway-queue-max-bots -d 'Bots that are kept track of there; one that nobody waits for makes room for another [env: GATEWAY_QUEUE_MAX_BOTS] [default: 1024]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l cluster-members -d 'Nodes to form a cluster with, separated by commas, each with a port if it is not CLUSTER_PORT [env: CLUSTER_MEMBERS]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l cluster-dns -d 'Name that resolves to the nodes of the cluster, looked up again every 2 s while this node is alone and every 30 s otherwise [env: CLUSTER_DNS]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l cluster-port -d 'UDP and TCP port that nodes of a cluster talk on, and that of members named without one; 0 takes a free one [env: CLUSTER_PORT] [default: 7654]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l cluster-secret -d 'What proves to the others that a node is one of them, the same for all; better not given as a flag, which others can see [env: CLUSTER_SECRET]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l cluster-ca-file -d 'PEM file with the authorities that must have signed the certificates of other nodes [env: CLUSTER_CA_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l cluster-tls-name -d 'Host name that the certificates of all nodes carry; unset, each node\'s carries its address [env: CLUSTER_TLS_NAME]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l dprl-port -d 'The same as FORWARD_PORT, which holds where both are set [env: DPRL_PORT]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-port -d 'Port of the forward proxy; 0 takes a free one; unset, there is none [env: FORWARD_PORT]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-bind-ip -d 'Address to serve the forward proxy on [env: FORWARD_BIND_IP] [default: 127.0.0.1]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l dprl-max-connections -d 'The same as FORWARD_MAX_CONNECTIONS, which holds where both are set [env: DPRL_MAX_CONNECTIONS] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-max-connections -d 'Connections to each host at a time; 0 for no limit [env: FORWARD_MAX_CONNECTIONS] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-host-limits -d 'The same for single hosts, as host=N, separated by commas; 0 frees a host of the limit of all [env: FORWARD_HOST_LIMITS]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-reject-status -d 'What a client beyond the limit is told: 500, as dprl, or 503 with Retry-After [env: FORWARD_REJECT_STATUS] [default: 500]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-queue-timeout -d 'Milliseconds that a client beyond the limit waits for its turn before it is told so; 0 for no waiting [env: FORWARD_QUEUE_TIMEOUT] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-allow -d 'The only hosts and networks that may be reached, separated by commas; unset, all with a public address [env: FORWARD_ALLOW]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-deny -d 'Hosts and networks that may not be reached, separated by commas [env: FORWARD_DENY]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-credentials-file -d 'File of those who may use the forward proxy, user:password on each line; unset, whoever may connect [env: FORWARD_CREDENTIALS_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-connect-timeout -d 'Milliseconds for looking a host up and connecting to it [env: FORWARD_CONNECT_TIMEOUT] [default: 10000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-idle-timeout -d 'Milliseconds that a tunnel may be silent [env: FORWARD_IDLE_TIMEOUT] [default: 300000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l forward-max-clients -d 'Client connections of the forward proxy [env: FORWARD_MAX_CLIENTS] [default: 16384]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-addr -d 'Redis that forward proxies share their caps through; unset, each counts for itself [env: REDIS_ADDR]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-username -d 'User of Redis\' ACL; unset, its default one [env: REDIS_USERNAME]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-password -d 'Password for Redis [env: REDIS_PASSWORD]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-db -d 'Database in Redis; unset, the one that REDIS_ADDR names, or 0 [env: REDIS_DB]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-fail -d 'New connections while Redis is away: closed for none, open for any, local for an even share of each cap [env: REDIS_FAIL] [default: local]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-max-lifetime -d 'Milliseconds after which Redis forgets what a proxy that crashed had open; open connections are renewed [env: REDIS_MAX_LIFETIME] [default: 60000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-timeout -d 'Milliseconds Redis has to answer; then it counts as away [env: REDIS_TIMEOUT] [default: 500]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l redis-scan-interval -d 'Milliseconds between looks for proxies of dprl in the fleet; 0 if there are none [env: REDIS_SCAN_INTERVAL] [default: 5000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l workers -d 'Threads that serve; unset, one for each core that is available [env: WORKERS]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l io-driver -d 'What to wait for the kernel with; auto takes io_uring where it is granted [env: IO_DRIVER] [default: auto]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l shutdown-timeout -d 'Milliseconds that exchanges may take to finish once weir was told to stop [env: SHUTDOWN_TIMEOUT] [default: 30000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l core-dumps -d 'Let a crash leave a core dump and a panic\'s words in the log, in which tokens may be, and debuggers of the same user look in [env: CORE_DUMPS] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l state-file -d 'File that keeps what was learned over a restart; unset, it is learned anew [env: STATE_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l log-level -d 'How much to log: error, warn, info, debug or trace [env: LOG_LEVEL] [default: info]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l log-format -d 'How to log: text, or json with one object a line [env: LOG_FORMAT] [default: text]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l access-log -d 'Which requests get a line on stdout: off, all, errors, a fraction such as 0.01, or errors,0.01 [env: ACCESS_LOG] [default: off]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l enable-metrics -d 'Serve Prometheus metrics [env: ENABLE_METRICS] [default: true]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l metrics-port -d 'Port of /metrics; 0 takes a free one [env: METRICS_PORT] [default: 9000]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l admin-token -d 'What a request to change the running weir must carry; unset, whoever is on this machine may; better not as a flag, which others can see [env: ADMIN_TOKEN]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l buffer-size -d 'Requests in a queue\'s channel [env: BUFFER_SIZE]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l disable-http-2 -d 'No HTTP/2 towards Discord [env: DISABLE_HTTP_2]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -l enable-pprof -d 'Go\'s profiling endpoint [env: ENABLE_PPROF]' -r
complete -c weir -n "__fish_weir_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand check" -l env-file -d 'File with settings, a NAME=value on each line, to read in place of .env in the working directory' -r -F
complete -c weir -n "__fish_weir_using_subcommand check" -l bind-ip -d 'Address to serve clients and metrics on [env: BIND_IP] [default: 0.0.0.0]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l port -d 'Port for clients; 0 takes a free one [env: PORT] [default: 8080]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l allow-from -d 'Addresses and networks that may connect, separated by commas; unset, all [env: ALLOW_FROM]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l tls-cert-file -d 'PEM file with the certificate to show clients, and its chain; unset, plain HTTP is spoken [env: TLS_CERT_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l tls-key-file -d 'PEM file with the private key of TLS_CERT_FILE [env: TLS_KEY_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l tls-client-ca-file -d 'PEM file with the authorities that must have signed a client\'s certificate; unset, none is asked for [env: TLS_CLIENT_CA_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l max-connections -d 'Client connections at a time; more are refused [env: MAX_CONNECTIONS] [default: 65536]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l max-connections-per-client -d 'Client connections from one address (of IPv6, one /64); more are refused; 0 for no bound [env: MAX_CONNECTIONS_PER_CLIENT] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l client-header-timeout -d 'Milliseconds a client has to send a request\'s head, and to begin its first one [env: CLIENT_HEADER_TIMEOUT] [default: 10000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l client-idle-timeout -d 'Milliseconds a client\'s connection may be silent between requests, or a body make no progress [env: CLIENT_IDLE_TIMEOUT] [default: 75000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l client-min-rate -d 'Bytes a second that a client sends of a body and takes of an answer at the least; who falls behind by CLIENT_IDLE_TIMEOUT is cut off; 0 for no bound [env: CLIENT_MIN_RATE] [default: 1024]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l upstream-url -d 'Where requests go [env: UPSTREAM_URL] [default: https://discord.com]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l upstream-ca-file -d 'PEM file with the only certificates to trust for the upstream, instead of Mozilla\'s [env: UPSTREAM_CA_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l outbound-ip -d 'Local address to connect to the upstream from [env: OUTBOUND_IP]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l request-timeout -d 'Milliseconds the upstream has to answer; the time waiting for a limit is not in it [env: REQUEST_TIMEOUT] [default: 5000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l upstream-max-connections -d 'Upstream connections of each worker [env: UPSTREAM_MAX_CONNECTIONS] [default: 512]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l upstream-idle-timeout -d 'Milliseconds an unused upstream connection is kept [env: UPSTREAM_IDLE_TIMEOUT] [default: 60000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l bot-ratelimit-overrides -d 'Global limits of bots, as user id:requests a second, separated by commas [env: BOT_RATELIMIT_OVERRIDES]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l disable-global-ratelimit-detection -d 'Never ask /gateway/bot for a bot\'s global limit [env: DISABLE_GLOBAL_RATELIMIT_DETECTION] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l disable-401-lock -d 'Go on sending for a token that Discord refused [env: DISABLE_401_LOCK] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l retries -d 'How often a request that Discord answered with 429 is sent again; 0 passes every answer on [env: RETRIES] [default: 1]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l retry-shared -d 'Send again, beyond RETRIES, while a limit shared with others refuses [env: RETRY_SHARED] [default: true]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l max-wait -d 'Milliseconds a request may wait for a limit; 429 at once if it would be longer; 0 for no bound [env: MAX_WAIT] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l allow-concurrent-requests -d 'Requests that change something need not wait for each other\'s answer; their order is then not kept [env: ALLOW_CONCURRENT_REQUESTS] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l default-bucket -d 'Requests of unknown routes that go at once, for each bot and channel, guild or webhook [env: DEFAULT_BUCKET] [default: 1]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l default-buckets -d 'Requests of an unknown route that go at once, by route, as METHOD /path=N, separated by commas; ! in a path stands for any id [env: DEFAULT_BUCKETS]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l max-waiting-per-bucket -d 'Requests that may wait for one bucket; more are refused [env: MAX_WAITING_PER_BUCKET] [default: 10000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l max-waiting -d 'Requests that may wait in all; more are refused [env: MAX_WAITING] [default: 100000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l max-buckets -d 'Buckets that are kept [env: MAX_BUCKETS] [default: 1000000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l max-bearer-count -d 'Bearer tokens that are kept track of [env: MAX_BEARER_COUNT] [default: 1024]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l gateway-queue-port -d 'Port where shards ask when they may IDENTIFY; 0 takes a free one; unset, there is none; in a cluster the same at all nodes, which ask each other there [env: GATEWAY_QUEUE_PORT]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l discord-token -d 'Token of the bot whose shards ask without an Authorization of their own; better not as a flag, which others can see [env: DISCORD_TOKEN]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l gateway-queue-max-waiting -d 'Shards that wait to IDENTIFY; more are refused [env: GATEWAY_QUEUE_MAX_WAITING] [default: 65536]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l gateway-queue-max-waiting-per-bot -d 'The same for one bot [env: GATEWAY_QUEUE_MAX_WAITING_PER_BOT] [default: 16384]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l gateway-queue-max-bots -d 'Bots that are kept track of there; one that nobody waits for makes room for another [env: GATEWAY_QUEUE_MAX_BOTS] [default: 1024]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l cluster-members -d 'Nodes to form a cluster with, separated by commas, each with a port if it is not CLUSTER_PORT [env: CLUSTER_MEMBERS]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l cluster-dns -d 'Name that resolves to the nodes of the cluster, looked up again every 2 s while this node is alone and every 30 s otherwise [env: CLUSTER_DNS]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l cluster-port -d 'UDP and TCP port that nodes of a cluster talk on, and that of members named without one; 0 takes a free one [env: CLUSTER_PORT] [default: 7654]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l cluster-secret -d 'What proves to the others that a node is one of them, the same for all; better not given as a flag, which others can see [env: CLUSTER_SECRET]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l cluster-ca-file -d 'PEM file with the authorities that must have signed the certificates of other nodes [env: CLUSTER_CA_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l cluster-tls-name -d 'Host name that the certificates of all nodes carry; unset, each node\'s carries its address [env: CLUSTER_TLS_NAME]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l dprl-port -d 'The same as FORWARD_PORT, which holds where both are set [env: DPRL_PORT]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-port -d 'Port of the forward proxy; 0 takes a free one; unset, there is none [env: FORWARD_PORT]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-bind-ip -d 'Address to serve the forward proxy on [env: FORWARD_BIND_IP] [default: 127.0.0.1]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l dprl-max-connections -d 'The same as FORWARD_MAX_CONNECTIONS, which holds where both are set [env: DPRL_MAX_CONNECTIONS] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-max-connections -d 'Connections to each host at a time; 0 for no limit [env: FORWARD_MAX_CONNECTIONS] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-host-limits -d 'The same for single hosts, as host=N, separated by commas; 0 frees a host of the limit of all [env: FORWARD_HOST_LIMITS]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-reject-status -d 'What a client beyond the limit is told: 500, as dprl, or 503 with Retry-After [env: FORWARD_REJECT_STATUS] [default: 500]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-queue-timeout -d 'Milliseconds that a client beyond the limit waits for its turn before it is told so; 0 for no waiting [env: FORWARD_QUEUE_TIMEOUT] [default: 0]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-allow -d 'The only hosts and networks that may be reached, separated by commas; unset, all with a public address [env: FORWARD_ALLOW]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-deny -d 'Hosts and networks that may not be reached, separated by commas [env: FORWARD_DENY]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-credentials-file -d 'File of those who may use the forward proxy, user:password on each line; unset, whoever may connect [env: FORWARD_CREDENTIALS_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-connect-timeout -d 'Milliseconds for looking a host up and connecting to it [env: FORWARD_CONNECT_TIMEOUT] [default: 10000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-idle-timeout -d 'Milliseconds that a tunnel may be silent [env: FORWARD_IDLE_TIMEOUT] [default: 300000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l forward-max-clients -d 'Client connections of the forward proxy [env: FORWARD_MAX_CLIENTS] [default: 16384]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-addr -d 'Redis that forward proxies share their caps through; unset, each counts for itself [env: REDIS_ADDR]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-username -d 'User of Redis\' ACL; unset, its default one [env: REDIS_USERNAME]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-password -d 'Password for Redis [env: REDIS_PASSWORD]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-db -d 'Database in Redis; unset, the one that REDIS_ADDR names, or 0 [env: REDIS_DB]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-fail -d 'New connections while Redis is away: closed for none, open for any, local for an even share of each cap [env: REDIS_FAIL] [default: local]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-max-lifetime -d 'Milliseconds after which Redis forgets what a proxy that crashed had open; open connections are renewed [env: REDIS_MAX_LIFETIME] [default: 60000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-timeout -d 'Milliseconds Redis has to answer; then it counts as away [env: REDIS_TIMEOUT] [default: 500]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l redis-scan-interval -d 'Milliseconds between looks for proxies of dprl in the fleet; 0 if there are none [env: REDIS_SCAN_INTERVAL] [default: 5000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l workers -d 'Threads that serve; unset, one for each core that is available [env: WORKERS]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l io-driver -d 'What to wait for the kernel with; auto takes io_uring where it is granted [env: IO_DRIVER] [default: auto]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l shutdown-timeout -d 'Milliseconds that exchanges may take to finish once weir was told to stop [env: SHUTDOWN_TIMEOUT] [default: 30000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l core-dumps -d 'Let a crash leave a core dump and a panic\'s words in the log, in which tokens may be, and debuggers of the same user look in [env: CORE_DUMPS] [default: false]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l state-file -d 'File that keeps what was learned over a restart; unset, it is learned anew [env: STATE_FILE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l log-level -d 'How much to log: error, warn, info, debug or trace [env: LOG_LEVEL] [default: info]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l log-format -d 'How to log: text, or json with one object a line [env: LOG_FORMAT] [default: text]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l access-log -d 'Which requests get a line on stdout: off, all, errors, a fraction such as 0.01, or errors,0.01 [env: ACCESS_LOG] [default: off]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l enable-metrics -d 'Serve Prometheus metrics [env: ENABLE_METRICS] [default: true]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l metrics-port -d 'Port of /metrics; 0 takes a free one [env: METRICS_PORT] [default: 9000]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l admin-token -d 'What a request to change the running weir must carry; unset, whoever is on this machine may; better not as a flag, which others can see [env: ADMIN_TOKEN]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l buffer-size -d 'Requests in a queue\'s channel [env: BUFFER_SIZE]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l disable-http-2 -d 'No HTTP/2 towards Discord [env: DISABLE_HTTP_2]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l enable-pprof -d 'Go\'s profiling endpoint [env: ENABLE_PPROF]' -r
complete -c weir -n "__fish_weir_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand status" -l env-file -d 'File with settings, a NAME=value on each line, to read in place of .env in the working directory' -r -F
complete -c weir -n "__fish_weir_using_subcommand status" -l at -d 'Metrics port of the weir to ask [default: METRICS_PORT on this machine]' -r
complete -c weir -n "__fish_weir_using_subcommand status" -s h -l help -d 'Print help'
complete -c weir -n "__fish_weir_using_subcommand top" -l env-file -d 'File with settings, a NAME=value on each line, to read in place of .env in the working directory' -r -F
complete -c weir -n "__fish_weir_using_subcommand top" -l at -d 'Metrics port of the weir to ask [default: METRICS_PORT on this machine]' -r
complete -c weir -n "__fish_weir_using_subcommand top" -l count -d 'End after so many looks; else on Ctrl-C' -r
complete -c weir -n "__fish_weir_using_subcommand top" -s h -l help -d 'Print help'
complete -c weir -n "__fish_weir_using_subcommand help; and not __fish_seen_subcommand_from serve check status top help" -f -a "serve" -d 'Serve; the same as no command at all'
complete -c weir -n "__fish_weir_using_subcommand help; and not __fish_seen_subcommand_from serve check status top help" -f -a "check" -d 'Look over the settings, reach the upstream step by step, and try what a start needs'
complete -c weir -n "__fish_weir_using_subcommand help; and not __fish_seen_subcommand_from serve check status top help" -f -a "status" -d 'Print how a running weir stands, by its metrics port'
complete -c weir -n "__fish_weir_using_subcommand help; and not __fish_seen_subcommand_from serve check status top help" -f -a "top" -d 'The same, each second: on a terminal a screen, else a line'
complete -c weir -n "__fish_weir_using_subcommand help; and not __fish_seen_subcommand_from serve check status top help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
