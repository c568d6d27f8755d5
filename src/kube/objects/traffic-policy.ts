import type { BalancingPolicy, HashKey, HashRing, OutlierDetection, TrafficPolicy } from '../../model/index.ts'
import { type Field, ObjectParseError } from './field.ts'
import { parseDurationMs } from './go-duration.ts'
import { type Note, usable } from './note.ts'
import { tokenText, urlText } from './wire-text.ts'

/** What a `trafficPolicy` says; what is not done here, or cannot be read, is noted and left out. */
export function parseTrafficPolicy(policy: Field, note: Note, alsoKnown: readonly string[] = []): TrafficPolicy {
  const parts = ['loadBalancer', 'outlierDetection', 'connectionPool', 'portLevelSettings']
  noteOthers(policy, [...parts, ...alsoKnown], note)
  const balancer = usable(() => policy.at('loadBalancer'), note)
  if (balancer === undefined || policy.isAbsent) return {}
  const loadBalancer = usable(() => parseBalancer(balancer, note), note)
  const outlierDetection = usable(() => parseOutliers(policy.at('outlierDetection'), note), note)
  return {
    ...(loadBalancer !== undefined && { loadBalancer }),
    ...usable(() => parseLocality(balancer.at('localityLbSetting'), note), note),
    ...(outlierDetection !== undefined && { outlierDetection }),
    ...usable(() => parseConnectionPool(policy.at('connectionPool'), note), note),
  }
}

/** Notes the fields of a map that are not among those that are looked at. */
export function noteOthers({ value, path }: Field, known: readonly string[], note: Note): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return
  for (const [key, found] of Object.entries(value)) {
    if (known.includes(key) || found === null || found === undefined) continue
    note(new ObjectParseError([...path, key], found, 'is not supported'))
  }
}

const simplePolicies = new Map<string, BalancingPolicy | undefined>([
  ['', undefined],
  ['UNSPECIFIED', undefined],
  ['ROUND_ROBIN', { kind: 'round-robin' }],
  ['RANDOM', { kind: 'random' }],
  ['LEAST_REQUEST', { kind: 'least-request' }],
  ['LEAST_CONN', { kind: 'least-request' }],
  ['PASSTHROUGH', { kind: 'passthrough' }],
])

function parseBalancer(balancer: Field, note: Note): BalancingPolicy | undefined {
  noteOthers(balancer, ['simple', 'consistentHash', 'localityLbSetting'], note)
  const hash = balancer.at('consistentHash')
  if (!hash.isAbsent) {
    const policy = usable(() => parseConsistentHash(hash, note), note)
    if (policy !== undefined) return policy
  }
  const simple = balancer.at('simple')
  if (!simplePolicies.has(simple.text())) throw simple.error('is not supported')
  return simplePolicies.get(simple.text())
}

/** Istio's regions and zones say nothing about LANs; whether nearness counts is taken from it, and its order is ours. */
function parseLocality(setting: Field, note: Note): Pick<TrafficPolicy, 'locality'> {
  if (setting.isAbsent) return {}
  noteOthers(setting, ['enabled'], note)
  return { locality: setting.at('enabled').flag(true) ? 'nearest' : 'none' }
}

function parseConsistentHash(hash: Field, note: Note): BalancingPolicy {
  const keys = ['httpHeaderName', 'httpCookie', 'useSourceIp', 'httpQueryParameterName']
  noteOthers(hash, [...keys, 'minimumRingSize', 'ringHash', 'maglev'], note)
  const [key, ...others] = parseHashKeys(hash, note)
  if (key === undefined) throw hash.error(`needs one of ${keys.join(', ')}`)
  if (others.length > 0) note(hash.error('names several keys, of which the first counts'))
  const ring = usable(() => parseRing(hash), note) ?? { kind: 'ring' }
  return { kind: 'consistent-hash', key, ring }
}

function parseHashKeys(hash: Field, note: Note): HashKey[] {
  const header = usable(() => hash.at('httpHeaderName').text(), note)
  const cookie = usable(() => parseCookie(hash.at('httpCookie'), note), note)
  const useSourceIp = usable(() => hash.at('useSourceIp').flag(false), note)
  const parameter = usable(() => hash.at('httpQueryParameterName').text(), note)
  return [
    ...(header ? [{ kind: 'http-header', name: header } as const] : []),
    ...(cookie ? [cookie] : []),
    ...(useSourceIp ? [{ kind: 'source-ip' } as const] : []),
    ...(parameter ? [{ kind: 'query-parameter', name: parameter } as const] : []),
  ]
}

function parseCookie(cookie: Field, note: Note): HashKey | undefined {
  if (cookie.isAbsent) return undefined
  const name = tokenText(cookie.at('name'))
  if (name === '') throw cookie.at('name').error('is missing')
  noteOthers(cookie, ['name', 'path', 'ttl'], note)
  const path = usable(() => cookiePath(cookie.at('path')), note)
  const ttlMs = usable(() => parseDurationMs(cookie.at('ttl')), note)
  return { kind: 'http-cookie', name, ...(path && { path }), ...(ttlMs !== undefined && { ttlMs }) }
}

/** A semicolon would end it. */
function cookiePath(field: Field): string {
  const path = urlText(field)
  if (path.includes(';')) throw field.error('must not hold a semicolon')
  return path
}

function parseRing(hash: Field): HashRing {
  const maglev = hash.at('maglev')
  if (!maglev.isAbsent) {
    const tableSize = parseSize(maglev.at('tableSize'))
    return { kind: 'maglev', ...(tableSize > 0 && { tableSize }) }
  }
  const minimumSize = parseSize(hash.at('ringHash', 'minimumRingSize')) || parseSize(hash.at('minimumRingSize'))
  return { kind: 'ring', ...(minimumSize > 0 && { minimumSize }) }
}

/** Numbers of 64 bits come as text from some programs. 0 when absent. */
function parseSize(field: Field): number {
  const { value } = field
  if (typeof value === 'string' && /^\d{1,7}$/.test(value)) return Number(value)
  return field.integer(0, 8_388_608) ?? 0
}

const usualErrors = 5
const usualEjectionMs = 30_000
const usualEjectionPercent = 10

/** Undefined when no count of errors is in force. */
function parseOutliers(outliers: Field, note: Note): OutlierDetection | undefined {
  if (outliers.isAbsent) return undefined
  const counts = [
    'consecutive5xxErrors',
    'consecutiveErrors',
    'consecutiveGatewayErrors',
    'consecutiveLocalOriginFailures',
  ]
  noteOthers(outliers, [...counts, 'baseEjectionTime', 'maxEjectionPercent'], note)
  const given = counts.flatMap((key) => usable(() => outliers.at(key).integer(0, 2 ** 32 - 1), note) ?? [])
  const inForce = given.filter((count) => count > 0)
  if (given.length > 0 && inForce.length === 0) return undefined
  const baseEjectionMs = usable(() => parseDurationMs(outliers.at('baseEjectionTime')), note)
  const percent = usable(() => outliers.at('maxEjectionPercent').integer(0, 100), note)
  return {
    consecutiveErrors: given.length === 0 ? usualErrors : Math.min(...inForce),
    baseEjectionMs: baseEjectionMs ?? usualEjectionMs,
    maxEjectionPercent: percent ?? usualEjectionPercent,
  }
}

function parseConnectionPool(pool: Field, note: Note): Pick<TrafficPolicy, 'maxConnections' | 'connectTimeoutMs'> {
  const tcp = pool.at('tcp')
  noteOthers(pool, ['tcp'], note)
  noteOthers(tcp, ['maxConnections', 'connectTimeout'], note)
  const maxConnections = usable(() => tcp.at('maxConnections').integer(0, 2 ** 31 - 1), note)
  const connectTimeoutMs = usable(() => parseDurationMs(tcp.at('connectTimeout')), note)
  return { ...(maxConnections && { maxConnections }), ...(connectTimeoutMs && { connectTimeoutMs }) }
}
