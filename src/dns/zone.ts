import type { Snapshot } from '../catalog/index.ts'
import { ipv4ToNumber, type Service } from '../model/index.ts'
import { queryOnlyTypes, rcode, recordType } from './constants.ts'
import { type Answer, answerOf, type DnsRecord } from './records.ts'
import {
  type AddressOfEndpoint,
  addressesOf,
  dashedOf,
  isEmptyHeadless,
  namedEndpointsOf,
  type RecordSource,
  targetsOf,
} from './service-records.ts'

/** A name in lower case without a final dot, and a record type by number. */
export interface Question {
  readonly name: string
  readonly type: number
}

/** What every cluster name depends on besides the snapshot. */
export interface ZoneOptions {
  /** Domain of the cluster, in lower case. */
  readonly domain: string
  readonly ttlSeconds: number
  /** Where this server answers; the address of the zone's own name server. */
  readonly serverAddress: string
  readonly addressOfEndpoint?: AddressOfEndpoint | undefined
}

/**
 * The names of one snapshot, after version 1.1 of the Kubernetes DNS specification:
 *
 *     SERVICE.NAMESPACE.svc.DOMAIN                   A, or CNAME for ExternalName
 *     HOSTNAME | A-B-C-D.SERVICE.NAMESPACE.svc.DOMAIN  A of one ready endpoint
 *     _PORT._PROTOCOL.SERVICE.NAMESPACE.svc.DOMAIN   SRV
 *     A-B-C-D.NAMESPACE.pod.DOMAIN                   A, the same address
 *     D.C.B.A.in-addr.arpa                           PTR of ClusterIPs and headless endpoints
 *     dns-version.DOMAIN                             TXT
 *
 * The mesh carries IPv4 only, so no name has an AAAA record: an address that leads nowhere is worse than none.
 */
export class Zone {
  readonly #snapshot: Snapshot
  readonly #source: RecordSource
  readonly #options: ZoneOptions
  #namespaces: ReadonlySet<string> | undefined
  #endpointNames: ReadonlyMap<string, readonly string[]> | undefined

  constructor(snapshot: Snapshot, options: ZoneOptions) {
    this.#snapshot = snapshot
    this.#source = { snapshot, addressOfEndpoint: options.addressOfEndpoint }
    this.#options = options
  }

  /** True for the domain of the cluster and all names below it. */
  contains(name: string): boolean {
    return isInDomain(name, this.#options.domain)
  }

  /** The answer; undefined when the name is not ours and someone else must be asked. */
  answer({ name, type }: Question): Answer | undefined {
    if (this.contains(name)) return this.#answerInDomain(name, type)
    return type === recordType.PTR ? this.#answerReverse(name) : undefined
  }

  #answerInDomain(name: string, type: number): Answer {
    if (type > queryOnlyTypes.above && type <= queryOnlyTypes.upTo) return answerOf([], { rcode: rcode.notImplemented })
    const { domain, serverAddress } = this.#options
    if (name === domain) return this.#answerApex(type)
    const labels = name.slice(0, -domain.length - 1).split('.')
    const kind = labels.pop()
    if (kind === 'svc') return this.#answerBelowSvc(labels, name, type)
    if (kind === 'pod') return this.#answerBelowPod(labels, type)
    if (kind === 'dns-version' && labels.length === 0) {
      return this.#rrset(type, [{ type: 'TXT', data: '1.1.0', ttlSeconds: this.#options.ttlSeconds }])
    }
    if (kind === 'dns') return this.#answerBelowDns(labels, type, serverAddress)
    return this.#noName()
  }

  #answerApex(type: number): Answer {
    const { domain, ttlSeconds, serverAddress } = this.#options
    const server = `ns.dns.${domain}`
    const additionals: DnsRecord[] = [{ name: server, type: 'A', data: serverAddress, ttlSeconds }]
    if (type === recordType.NS) return answerOf([{ type: 'NS', data: server, ttlSeconds }], { additionals })
    return this.#rrset(type, [this.#soa()])
  }

  #answerBelowDns(labels: readonly string[], type: number, serverAddress: string): Answer {
    if (labels.length === 0) return this.#noData()
    if (labels.length > 1 || labels[0] !== 'ns') return this.#noName()
    return this.#rrset(type, [this.#address(serverAddress)])
  }

  #answerBelowPod(labels: readonly string[], type: number): Answer {
    if (labels.length < 2) return this.#noData()
    const address = /^[\d-]+$/.test(labels[0] ?? '') ? labels[0]?.replaceAll('-', '.') : undefined
    if (labels.length > 2 || address === undefined || ipv4ToNumber(address) === undefined) return this.#noName()
    return this.#rrset(type, [this.#address(address)])
  }

  /** `labels` are those to the left of `svc`. */
  #answerBelowSvc(labels: readonly string[], name: string, type: number): Answer {
    const [serviceName, namespace] = labels.slice(-2)
    if (serviceName === undefined || namespace === undefined) return this.#answerNamespace(labels[0])
    const service = this.#snapshot.services.get(`${namespace}/${serviceName}`)
    if (service === undefined) return this.#noName()
    if (isEmptyHeadless(this.#source, service)) return this.#noName()
    const below = labels.slice(0, -2)
    if (below.length === 0) return this.#answerService(service, name, type)
    if (service.type === 'ExternalName') return this.#noName()
    const [last = ''] = below.slice(-1)
    if (last.startsWith('_')) return this.#answerPort(service, below, type)
    return below.length === 1 ? this.#answerEndpoint(service, last, type) : this.#noName()
  }

  #answerNamespace(namespace: string | undefined): Answer {
    this.#namespaces ??= new Set([...this.#snapshot.services.values()].map((service) => service.namespace))
    return namespace === undefined || this.#namespaces.has(namespace) ? this.#noData() : this.#noName()
  }

  #answerService(service: Service, name: string, type: number): Answer {
    const target = targetOf(service)
    if (target !== undefined) return this.#answerChain(name, target, type)
    if (type === recordType.SRV) return this.#answerTargets(targetsOf(this.#source, this.#named(service)))
    const addresses = addressesOf(this.#source, service)
    return this.#rrset(
      type,
      addresses.map((address) => this.#address(address)),
    )
  }

  /** `labels` are `_PROTOCOL` or `_PORT._PROTOCOL`. */
  #answerPort(service: Service, labels: readonly string[], type: number): Answer {
    const [portLabel, protocolLabel] = labels.length === 1 ? [undefined, labels[0]] : labels
    const protocol = protocolLabel === '_tcp' ? 'tcp' : protocolLabel === '_udp' ? 'udp' : undefined
    const ports = service.ports.filter((port) => port.protocol === protocol && port.name !== '')
    if (protocol === undefined || ports.length === 0 || labels.length > 2) return this.#noName()
    if (portLabel === undefined) return this.#noData()
    const port = ports.find(({ name }) => `_${name.toLowerCase()}` === portLabel)
    if (port === undefined) return this.#noName()
    if (type !== recordType.SRV && type !== recordType.ANY) return this.#noData()
    return this.#answerTargets(targetsOf(this.#source, this.#named(service), { name: port.name, protocol }))
  }

  #answerTargets(targets: ReturnType<typeof targetsOf>): Answer {
    const { ttlSeconds } = this.#options
    const answers = targets.map(({ host, port }): DnsRecord => {
      return { type: 'SRV', data: { priority: 0, weight: 100, port, target: host }, ttlSeconds }
    })
    const hosts = new Map(targets.map(({ host, address }) => [`${host} ${address}`, { host, address }]))
    const additionals = [...hosts.values()].map(({ host, address }) => ({ ...this.#address(address), name: host }))
    return answers.length === 0 ? this.#noData() : answerOf(answers, { additionals, isShuffled: true })
  }

  #answerEndpoint(service: Service, label: string, type: number): Answer {
    const endpoints = namedEndpointsOf(this.#source, service).filter((endpoint) => {
      return endpoint.label === label || dashedOf(endpoint.ownAddress) === label
    })
    const addresses = [...new Set(endpoints.map(({ address }) => address))]
    if (addresses.length === 0) return this.#noName()
    return this.#rrset(
      type,
      addresses.map((address) => this.#address(address)),
    )
  }

  /** Follows ExternalName Services as long as they lead to names of the cluster; stops where they run in a circle. */
  #answerChain(start: string, firstTarget: string, type: number): Answer {
    const { ttlSeconds } = this.#options
    const cname = (data: string): DnsRecord => ({ type: 'CNAME', data, ttlSeconds })
    if (type === recordType.CNAME || type === recordType.ANY) return answerOf([cname(firstTarget)])
    const chain: DnsRecord[] = [cname(firstTarget)]
    const seen = new Set([start])
    let target = firstTarget
    while (this.contains(target) && !seen.has(target)) {
      seen.add(target)
      const next = this.#externalNameOf(target)
      if (next === undefined) return this.#completed(chain, target, this.#answerInDomain(target, type))
      chain.push({ ...cname(next), name: target })
      target = next
    }
    if (seen.has(target)) return answerOf(chain, { rcode: rcode.serverFailure })
    return answerOf(chain, { continuesAt: target })
  }

  #completed(chain: readonly DnsRecord[], target: string, end: Answer): Answer {
    return {
      ...end,
      answers: [...chain, ...end.answers.map((record) => ({ name: target, ...record }))],
      isShuffled: false,
    }
  }

  #externalNameOf(name: string): string | undefined {
    const [serviceName, namespace, kind, ...domain] = name.split('.')
    if (kind !== 'svc' || domain.join('.') !== this.#options.domain) return undefined
    return targetOf(this.#snapshot.services.get(`${namespace}/${serviceName}`))
  }

  #answerReverse(name: string): Answer | undefined {
    const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/.exec(name)
    if (match === null) return undefined
    const address = match.slice(1).reverse().join('.')
    const service = this.#snapshot.serviceByClusterIP(address)
    const names = service === undefined ? this.#namesOfEndpoint(address) : [this.#named(service).serviceName]
    const { ttlSeconds } = this.#options
    return names.length === 0 ? undefined : answerOf(names.map((data) => ({ type: 'PTR', data, ttlSeconds })))
  }

  #namesOfEndpoint(address: string): readonly string[] {
    this.#endpointNames ??= this.#indexEndpointNames()
    return this.#endpointNames.get(address) ?? []
  }

  #indexEndpointNames(): ReadonlyMap<string, readonly string[]> {
    const names = new Map<string, string[]>()
    const headless = [...this.#snapshot.services.values()].filter((service) => service.headless)
    for (const service of headless) {
      for (const { address, ownAddress, label } of namedEndpointsOf(this.#source, service)) {
        const name = `${label}.${this.#named(service).serviceName}`
        for (const each of [address, ownAddress]) names.set(each, addTo(names.get(each), name))
      }
    }
    return names
  }

  #named(service: Service): { readonly service: Service; readonly serviceName: string } {
    return { service, serviceName: `${service.name}.${service.namespace}.svc.${this.#options.domain}` }
  }

  #address(data: string): DnsRecord {
    return { type: 'A', data, ttlSeconds: this.#options.ttlSeconds }
  }

  /** Records of one type, when that type or any was asked for; the name exists in any case. */
  #rrset(type: number, records: readonly DnsRecord[]): Answer {
    const [first] = records
    const isAsked = first !== undefined && (type === recordType.ANY || type === recordType[first.type])
    return isAsked ? answerOf(records, { isShuffled: records.length > 1 }) : this.#noData()
  }

  #noData(): Answer {
    return answerOf([], { authorities: [this.#soa()] })
  }

  #noName(): Answer {
    return answerOf([], { rcode: rcode.nameError, authorities: [this.#soa()] })
  }

  #soa(): DnsRecord {
    const { domain, ttlSeconds } = this.#options
    return {
      name: domain,
      type: 'SOA',
      ttlSeconds,
      data: {
        mname: `ns.dns.${domain}`,
        rname: `hostmaster.${domain}`,
        serial: this.#snapshot.sequence,
        refresh: 7200,
        retry: 1800,
        expire: 86_400,
        minimum: ttlSeconds,
      },
    }
  }
}

function addTo(names: string[] = [], name: string): string[] {
  if (!names.includes(name)) names.push(name)
  return names
}

/** The name that an ExternalName Service stands for, as names are compared: lower case, no dot at the end. */
function targetOf(service: Service | undefined): string | undefined {
  return service?.externalName?.toLowerCase().replace(/\.$/, '')
}

/** True for the domain and all names below it; both in lower case. */
export function isInDomain(name: string, domain: string): boolean {
  return name.endsWith(domain) && (name.length === domain.length || name[name.length - domain.length - 1] === '.')
}
