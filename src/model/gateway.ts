import type { ObjectReport } from './object-report.ts'

/** An Istio Gateway with what this product uses: ports on the edge of the mesh, and who may be asked for there. */
export interface Gateway {
  readonly namespace: string
  readonly name: string
  /** ISO 8601; absent in folders of manifests. The oldest object wins where two contradict each other. */
  readonly createdAt?: string
  /** What its status says in our name; absent where it says nothing. */
  readonly reported?: ObjectReport
  /** Labels that a gateway must carry to serve it; empty means every gateway. */
  readonly selector: Readonly<Record<string, string>>
  readonly servers: readonly GatewayServer[]
  /** What the object asks for and this product does not do, in words for the log. */
  readonly ignored: readonly string[]
  /** What is wrong with parts of the object, which are not in force; the rest is. */
  readonly problems: readonly string[]
}

/** One port with the hosts that may be asked for on it. */
export interface GatewayServer {
  readonly port: number
  readonly protocol: ServerProtocol
  /** The one address to listen on; absent means all that the gateway listens on. */
  readonly bind?: string
  readonly hosts: readonly ServerHost[]
  readonly tls?: ServerTls
}

/** What is spoken on a port; `https` is HTTP in TLS, `tls` anything in TLS. */
export type ServerProtocol = 'http' | 'https' | 'http2' | 'grpc' | 'tcp' | 'tls'

/** A host name of a server, and whose VirtualServices may serve it. */
export interface ServerHost {
  /** `*` for all, `.` for the Gateway's own, else a name. */
  readonly namespace: string
  /** A name, `*.domain` or `*`. */
  readonly host: string
}

/** How a server handles TLS. `terminate` holds for all modes in which the gateway has a certificate. */
export type ServerTls =
  | { readonly mode: 'redirect' }
  | { readonly mode: 'passthrough' }
  | {
      readonly mode: 'terminate'
      /** The Secret in the Gateway's namespace that holds certificate and key. */
      readonly credentialName: string
      readonly clientCertificate: ClientCertificateDemand
      readonly minVersion: TlsVersion
      readonly maxVersion: TlsVersion
      /** OpenSSL names for TLS 1.2 and below; empty means the defaults. */
      readonly cipherSuites: readonly string[]
      /** Client certificates must carry one of these; empty means any. */
      readonly subjectAltNames: readonly string[]
    }

/** Whether clients need a certificate; `as-secret`: when the Secret holds a CA, as the Go system does without a mode. */
export type ClientCertificateDemand = 'none' | 'optional' | 'required' | 'as-secret'

/** In the words of node:tls. */
export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'
