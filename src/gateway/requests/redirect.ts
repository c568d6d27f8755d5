import type { RedirectAction } from '../../model/index.ts'
import type { Exchange } from '../http/exchange.ts'
import type { RequestPath } from '../routing/request-path.ts'

/** Where a redirect sends the client. */
export function locationOf(
  action: RedirectAction,
  { request, client }: Exchange,
  target: RequestPath,
  matchedPrefix: string | undefined,
): string {
  const scheme = action.scheme ?? request.scheme
  const [host = '', askedPort] = splitPort(action.authority ?? request.authority)
  const port = portOf(action, askedPort, client.localPort)
  const usualPort = scheme === 'https' ? 443 : 80
  const authority = port === undefined || port === usualPort ? host : `${host}:${port}`
  return `${scheme}://${authority}${pathOf(action, target, matchedPrefix)}`
}

/** A new scheme has another port than the one that was asked, unless the rule says which. */
function portOf(action: RedirectAction, askedPort: number | undefined, localPort: number): number | undefined {
  if (action.port !== undefined) return action.port
  if (action.derivePort === 'request') return localPort
  const keepsPort = action.authority !== undefined || (action.scheme === undefined && action.derivePort === undefined)
  return keepsPort ? askedPort : undefined
}

function pathOf({ uri }: RedirectAction, { path, query }: RequestPath, matchedPrefix: string | undefined): string {
  if (uri === undefined) return path + query
  if (uri.startsWith('%PREFIX()%'))
    return uri.slice('%PREFIX()%'.length) + path.slice(matchedPrefix?.length ?? 0) + query
  return uri.includes('?') ? uri : uri + query
}

function splitPort(authority: string): readonly [string, number | undefined] {
  const match = /^(.*?)(?::(\d+))?$/.exec(authority)
  return [match?.[1] ?? authority, match?.[2] === undefined ? undefined : Number(match[2])]
}
