import type { ObjectReport } from './object-report.ts'
/** An Istio VirtualService with what this product uses: where requests for some hosts go. Durations are milliseconds. */
export interface VirtualService {
  readonly namespace: string
  readonly name: string
  /** ISO 8601; absent in folders of manifests. Rules of the oldest object come first. */
  readonly createdAt?: string
  /** What its status says in our name; absent where it says nothing. */
  readonly reported?: ObjectReport
  /** Lower-case names, `*.domain` or `*`. */
  readonly hosts: readonly string[]
  /** `name` in the own namespace or `namespace/name`; `mesh` means no gateway. */
  readonly gateways: readonly string[]
  /** Namespaces that see it: `.` for its own, `*` for all; empty means all. */
  readonly exportTo: readonly string[]
  readonly http: readonly HttpRule[]
  readonly tls: readonly TlsRule[]
  readonly tcp: readonly TcpRule[]
  /** What the object asks for and this product does not do, in words for the log. */
  readonly ignored: readonly string[]
  /** What is wrong with parts of the object; requests that a broken rule matches are answered with an error. */
  readonly problems: readonly string[]
}

/** What to do with the requests that match. */
export interface HttpRule {
  /** For logs and metrics; `#0` and so on when it has none. */
  readonly name: string
  /** One of them must match; absent means every request matches. An empty list never matches. */
  readonly match?: readonly HttpMatch[]
  readonly action: HttpAction
  /** Changes of requests and answers for all destinations. */
  readonly headers: HeaderChanges
  readonly cors?: CorsPolicy
  readonly fault?: FaultInjection
}

/** A closed union: a new kind is a compile error where kinds are told apart. */
export type HttpAction =
  | ForwardAction
  | RedirectAction
  /** Answers itself; the body is base64 text. */
  | { readonly kind: 'answer'; readonly status: number; readonly body: string }
  /** The rule cannot be followed, for the reason given; guessing would send requests where nobody wants them. */
  | { readonly kind: 'broken'; readonly reason: string }

/** Sends requests to Services. */
export interface ForwardAction {
  readonly kind: 'forward'
  readonly destinations: readonly WeightedHttpDestination[]
  readonly rewrite?: Rewrite
  /** For the whole answer, retries included; absent means none. */
  readonly timeoutMs?: number
  readonly retries?: RetryPolicy
  readonly mirrors: readonly Mirror[]
}

/** Tells the client to ask elsewhere; absent parts stay as they were asked for. */
export interface RedirectAction {
  readonly kind: 'redirect'
  readonly status: number
  readonly scheme?: string
  readonly authority?: string
  readonly uri?: string
  readonly port?: number
  /** Without `port`: the usual one of the new scheme, or the one that was asked; absent means the former. */
  readonly derivePort?: 'protocol' | 'request'
}

/** All given parts must hold. */
export interface HttpMatch {
  readonly uri?: StringMatch
  readonly ignoreUriCase: boolean
  readonly scheme?: StringMatch
  readonly method?: StringMatch
  readonly authority?: StringMatch
  /** By lower-case name. */
  readonly headers: readonly NamedMatch[]
  readonly withoutHeaders: readonly NamedMatch[]
  readonly queryParams: readonly NamedMatch[]
  /** The gateway's port. */
  readonly port?: number
  /** Gateways for which this match counts, as in `VirtualService.gateways`; empty means all. */
  readonly gateways: readonly string[]
}

/** A condition on one header or query parameter. */
export interface NamedMatch {
  readonly name: string
  readonly match: StringMatch | { readonly kind: 'present' }
}

/** How text is compared; a regex is RE2's and must match the whole text. */
export type StringMatch =
  | { readonly kind: 'exact'; readonly value: string }
  | { readonly kind: 'prefix'; readonly value: string }
  | { readonly kind: 'regex'; readonly value: string }

/** Where traffic goes. */
export interface Destination {
  /** As written: a short name, `name.namespace`, or a full name. */
  readonly host: string
  readonly subset?: string
  /** Absent means the only port of the Service. */
  readonly port?: number
}

/** A destination and its share of the traffic. */
export interface WeightedDestination extends Destination {
  readonly weight: number
}

/** A destination with changes of its own. */
export interface WeightedHttpDestination extends WeightedDestination {
  readonly headers: HeaderChanges
}

/** Copies of requests, whose answers nobody sees. */
export interface Mirror extends Destination {
  /** Share of the requests, 0..100. */
  readonly percent: number
}

/** What to change in a request's target before it is sent on. */
export interface Rewrite {
  /** Replaces the matched prefix, or the whole path where the match is no prefix. */
  readonly uri?: string
  readonly authority?: string
  readonly uriRegex?: { readonly match: string; readonly rewrite: string }
}

/** Header changes, in the order set, add, remove. Names are in lower case. */
export interface HeaderChanges {
  readonly request: HeaderOperations
  readonly response: HeaderOperations
}

/** Changes of one message. */
export interface HeaderOperations {
  readonly set: Readonly<Record<string, string>>
  readonly add: Readonly<Record<string, string>>
  readonly remove: readonly string[]
}

/** When a request is tried again. */
export interface RetryPolicy {
  /** Retries beyond the first attempt; 0 turns them off. */
  readonly attempts: number
  /** Absent means that the rule's timeout is all there is. */
  readonly perTryTimeoutMs?: number
  readonly conditions: readonly RetryCondition[]
  /** Statuses that `retriable-status-codes` names. */
  readonly statuses: readonly number[]
}

/** Names as in Istio's `retryOn`. */
export const retryConditions = [
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'refused-stream',
  'retriable-4xx',
  'retriable-status-codes',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
] as const

/** What makes an attempt worth another one. */
export type RetryCondition = (typeof retryConditions)[number]

/** Failures made on purpose. Percentages are 0..100. */
export interface FaultInjection {
  readonly delay?: { readonly percent: number; readonly delayMs: number }
  readonly abort?: { readonly percent: number; readonly status: number; readonly grpcStatus?: number }
}

/** Which pages of other origins may ask. */
export interface CorsPolicy {
  readonly origins: readonly StringMatch[]
  readonly methods: readonly string[]
  readonly headers: readonly string[]
  readonly exposeHeaders: readonly string[]
  readonly maxAgeSeconds?: number
  readonly allowCredentials: boolean
  /** What to do with a preflight request whose origin is not allowed: answer without permission, or let it pass. */
  readonly unmatchedPreflights: 'ignore' | 'forward'
}

/** Where connections go by the name that TLS clients ask for, unencrypted by us. */
export interface TlsRule {
  /** One of them must match; an empty list never matches. */
  readonly match: readonly TlsMatch[]
  readonly destinations: readonly WeightedDestination[]
}

/** All given parts must hold. */
export interface TlsMatch {
  /** Names, `*.domain` or `*`. */
  readonly sniHosts: readonly string[]
  readonly port?: number
  readonly gateways: readonly string[]
}

/** Where connections go. */
export interface TcpRule {
  /** One of them must match; absent means every connection matches. */
  readonly match?: readonly TcpMatch[]
  readonly destinations: readonly WeightedDestination[]
}

/** All given parts must hold. */
export interface TcpMatch {
  readonly port?: number
  readonly gateways: readonly string[]
}
