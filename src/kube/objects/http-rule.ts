import type {
  ForwardAction,
  HttpAction,
  HttpRule,
  Mirror,
  RedirectAction,
  Rewrite,
  WeightedHttpDestination,
} from '../../model/index.ts'
import { parseDestination, parseWeight, requireWeight } from './destination.ts'
import type { Field } from './field.ts'
import { ObjectParseError } from './field.ts'
import { parseDurationMs } from './go-duration.ts'
import { parseHttpMatch } from './http-match.ts'
import { parseCors, parseFault, parseHeaderChanges, parsePercent, parseRetries } from './http-policies.ts'
import type { Notes } from './notes.ts'
import { urlText } from './wire-text.ts'

const ruleKeys = [
  'name',
  'match',
  'route',
  'redirect',
  'directResponse',
  'delegate',
  'rewrite',
  'timeout',
  'retries',
  'fault',
  'mirror',
  'mirrors',
  'mirrorPercent',
  'mirror_percent',
  'mirrorPercentage',
  'corsPolicy',
  'headers',
]
const noChanges = { set: {}, add: {}, remove: [] }

/** One item of `spec.http`. Throws only when its match cannot be read: then nobody knows which requests are meant. */
export function parseHttpRule(field: Field, index: number, notes: Notes): HttpRule {
  const matches = parseMatches(field, notes)
  const match = matches === undefined ? {} : { match: matches }
  const name = field.at('name').text() || `#${index}`
  try {
    notes.checkKeys(field, ruleKeys)
    const cors = parseCors(field.at('corsPolicy'), notes)
    const fault = parseFault(field.at('fault'), notes)
    return {
      name,
      ...match,
      action: parseAction(field, notes),
      headers: parseHeaderChanges(field.at('headers'), notes),
      ...(cors === undefined ? {} : { cors }),
      ...(fault === undefined ? {} : { fault }),
    }
  } catch (error) {
    if (!(error instanceof ObjectParseError)) throw error
    notes.problems.push(error.message)
    const headers = { request: noChanges, response: noChanges }
    return { name, ...match, action: { kind: 'broken', reason: error.message }, headers }
  }
}

/** A match that cannot be read never holds; a rule that loses all of them this way must not hold always. */
function parseMatches(field: Field, notes: Notes): HttpRule['match'] {
  const items = field.at('match').items()
  return items.length === 0 ? undefined : notes.each(items, (item) => parseHttpMatch(item, notes))
}

function parseAction(field: Field, notes: Notes): HttpAction {
  const delegate = field.at('delegate')
  if (!delegate.isAbsent) throw delegate.error('is not supported; write the routes of the other object here')
  const present = ['route', 'redirect', 'directResponse'].filter((key) => !field.at(key).isAbsent)
  if (present.length !== 1) throw field.error('must have one of route, redirect and directResponse')
  switch (present[0]) {
    case 'redirect':
      return parseRedirect(field.at('redirect'), notes)
    case 'directResponse':
      return parseDirectResponse(field.at('directResponse'), notes)
    default:
      return parseForward(field, notes)
  }
}

function parseForward(field: Field, notes: Notes): ForwardAction {
  const timeoutMs = parseDurationMs(field.at('timeout'))
  const retries = parseRetries(field.at('retries'), notes)
  const rewrite = parseRewrite(field.at('rewrite'), notes)
  return {
    kind: 'forward',
    destinations: parseRoute(field.at('route'), notes),
    ...(rewrite === undefined ? {} : { rewrite }),
    // As in Istio, 0 means that there is no limit.
    ...(timeoutMs === undefined || timeoutMs === 0 ? {} : { timeoutMs }),
    ...(retries === undefined ? {} : { retries }),
    mirrors: parseMirrors(field, notes),
  }
}

function parseRoute(field: Field, notes: Notes): WeightedHttpDestination[] {
  const items = field.items()
  const destinations = items.map((item) => {
    notes.checkKeys(item, ['destination', 'weight', 'headers'])
    return {
      ...parseDestination(item.at('destination'), notes),
      weight: parseWeight(item, items.length),
      headers: parseHeaderChanges(item.at('headers'), notes),
    }
  })
  requireWeight(field, destinations)
  return destinations
}

function parseMirrors(field: Field, notes: Notes): Mirror[] {
  const single = field.at('mirror')
  const listed = field
    .at('mirrors')
    .items()
    .map((item) => {
      notes.checkKeys(item, ['destination', 'percentage'])
      return { ...parseDestination(item.at('destination'), notes), percent: parsePercent(item.at('percentage')) ?? 100 }
    })
  if (single.isAbsent) return listed
  const old = field.at('mirrorPercent').isAbsent ? field.at('mirror_percent') : field.at('mirrorPercent')
  const percent = parsePercent(field.at('mirrorPercentage')) ?? old.integer(0, 100) ?? 100
  return [{ ...parseDestination(single, notes), percent }, ...listed]
}

function parseRewrite(field: Field, notes: Notes): Rewrite | undefined {
  if (field.isAbsent) return undefined
  notes.checkKeys(field, ['uri', 'authority', 'uriRegexRewrite'])
  const regex = field.at('uriRegexRewrite')
  const uri = field.at('uri')
  const authority = urlText(field.at('authority'))
  if (!uri.isAbsent && !regex.isAbsent) throw regex.error('must not be there together with uri')
  return {
    ...(uri.isAbsent ? {} : { uri: urlText(uri) }),
    ...(authority === '' ? {} : { authority }),
    ...(regex.isAbsent ? {} : { uriRegex: { match: regex.at('match').text(), rewrite: regex.at('rewrite').text() } }),
  }
}

const redirectStatuses = [301, 302, 303, 307, 308]

function parseRedirect(field: Field, notes: Notes): RedirectAction {
  notes.checkKeys(field, ['uri', 'authority', 'port', 'derivePort', 'scheme', 'redirectCode'])
  const code = field.at('redirectCode')
  const status = code.integer(0, 999) || 301
  if (!redirectStatuses.includes(status)) throw code.error(`must be one of ${redirectStatuses.join(', ')}`)
  const port = field.at('port').integer(1, 65535)
  const derive = field.at('derivePort')
  if (!['', 'FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT'].includes(derive.text())) {
    throw derive.error('must be FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT')
  }
  const texts = ['scheme', 'authority', 'uri'].flatMap((key) => {
    const text = urlText(field.at(key))
    return text === '' ? [] : [[key, text] as const]
  })
  return {
    kind: 'redirect',
    status,
    ...Object.fromEntries(texts),
    ...(port === undefined ? {} : { port }),
    ...(derive.text() === '' ? {} : { derivePort: derive.text() === 'FROM_REQUEST_PORT' ? 'request' : 'protocol' }),
  }
}

function parseDirectResponse(field: Field, notes: Notes): HttpAction {
  notes.checkKeys(field, ['status', 'body'])
  const status = field.at('status').integer(200, 599)
  if (status === undefined) throw field.at('status').error('is missing')
  const body = field.at('body')
  notes.checkKeys(body, ['string', 'bytes'])
  if (!body.at('bytes').isAbsent) return { kind: 'answer', status, body: body.at('bytes').text() }
  return { kind: 'answer', status, body: Buffer.from(body.at('string').text()).toString('base64') }
}
