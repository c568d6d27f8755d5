import type { Gateway, ObjectKey, VirtualService } from '../../model/index.ts'
import type { HostMap } from './host-pattern.ts'
import type { HttpMatcher } from './http-matcher.ts'

/** Everything that Gateways and VirtualServices ask of this gateway; derived, immutable. */
export interface RouteTable {
  readonly listeners: readonly ListenerPlan[]
  readonly problems: readonly ObjectProblem[]
  /** The objects that this gateway serves. */
  readonly gateways: readonly Gateway[]
  readonly virtualServices: ReadonlySet<VirtualService>
  readonly counts: { readonly gateways: number; readonly virtualServices: number; readonly rules: number }
}

/** Something about one object that an operator should know. */
export interface ObjectProblem {
  readonly kind: 'Gateway' | 'VirtualService' | 'Secret'
  readonly object: ObjectKey
  /** The Gateway that names a Secret. */
  readonly gateway?: ObjectKey
  /** `error`: a part is not in force; `notice`: a field has no effect. */
  readonly severity: 'error' | 'notice'
  readonly message: string
}

/** One port. */
export type ListenerPlan = HttpListenerPlan | TlsListenerPlan | TcpListenerPlan

interface ListenerPlace {
  readonly port: number
  /** The one address to listen on; undefined means all of this gateway's. */
  readonly bind: string | undefined
  /** Gateways that ask for it. */
  readonly gateways: readonly ObjectKey[]
}

/** HTTP without encryption. */
export interface HttpListenerPlan extends ListenerPlace {
  readonly kind: 'http'
  readonly hosts: HttpHosts
}

/** Anything in TLS; the name that the client asks for decides. */
export interface TlsListenerPlan extends ListenerPlace {
  readonly kind: 'tls'
  readonly servers: HostMap<TlsServerPlan>
}

/** Bytes. */
export interface TcpListenerPlan extends ListenerPlace {
  readonly kind: 'tcp'
  readonly rules: readonly StreamRule[]
}

/** What happens to TLS connections for some names. */
export type TlsServerPlan =
  | { readonly mode: 'passthrough'; readonly gateway: ObjectKey; readonly rules: readonly SniRule[] }
  | {
      readonly mode: 'terminate'
      readonly gateway: ObjectKey
      readonly tls: TerminationPlan
      readonly inside:
        | { readonly kind: 'http'; readonly hosts: HttpHosts }
        | { readonly kind: 'tcp'; readonly rules: readonly StreamRule[] }
    }

/** How TLS ends here; the Secret is in the Gateway's namespace. */
export type TerminationPlan = Omit<
  Extract<NonNullable<Gateway['servers'][number]['tls']>, { mode: 'terminate' }>,
  'mode'
> & {
  readonly secret: ObjectKey
}

/** Who may be asked for, and what is done with the requests. */
export type HttpHosts = HostMap<VirtualHost>

/** The rules for one host pattern, in the order to try them. */
export interface VirtualHost {
  readonly pattern: string
  readonly redirectsToHttps: boolean
  readonly rules: readonly HttpRoute[]
}

/** A rule of a VirtualService on one port. */
export interface HttpRoute {
  /** `namespace/name/rule`, for logs and metrics. */
  readonly id: string
  readonly virtualService: VirtualService
  readonly rule: VirtualService['http'][number]
  /** One of them must hold; undefined means always. */
  readonly matchers: readonly HttpMatcher[] | undefined
}

/** Where connections go. */
export interface StreamRule {
  readonly id: string
  readonly virtualService: VirtualService
  readonly rule: VirtualService['tcp'][number]
}

/** Where connections for some names go. */
export interface SniRule {
  readonly id: string
  readonly virtualService: VirtualService
  readonly rule: VirtualService['tls'][number]
  readonly sniHosts: readonly string[]
}
