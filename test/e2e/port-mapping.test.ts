/**
 * Routers that open a port when they are asked: two NATs that change the port of each connection, between which no hole can
 * be punched, and yet a direct path.
 *
 *                            wan
 *      ┌──────────┬───────────┴──┬───────────────┬──────────────┐
 *    relay    router-pcp    router-pmp      router-upnp     router-none      all with random ports; all but the last open one
 *    server       │              │               │              │
 *             edge-pcp       edge-pmp        edge-upnp      edge-none        agents
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createLab, type Lab, type LabProcess, startTestServer } from '../lab/index.ts'
import { bodyFrom, configFileOf, edgemesh, eventually, quickStatusOf, writeService } from './support/site.ts'

const routers = { pcp: 'PCP', pmp: 'NAT-PMP', upnp: 'UPnP' } as const
const sites = ['pcp', 'pmp', 'upnp', 'none'] as const
const addressOf = (site: string) => `10.96.1.${(sites as readonly string[]).indexOf(site) + 1}`
const port = 8080

let lab: Lab
const opened = new Map<string, LabProcess>()
const agents = new Map<string, LabProcess>()
before(async () => {
  const lans = sites.map((site) => [site, { nat: 'randomising' as const, nodes: [`edge-${site}`] }])
  lab = await createLab({ cloud: ['relay'], lans: Object.fromEntries(lans) })
  await lab.startServer('relay')
  for (const [site, protocol] of Object.entries(routers)) {
    const options = { port: protocol === 'UPnP' ? 1900 : 5351, protocol, firstPort: 41_000 }
    opened.set(site, await startTestServer(lab.router(site), 'port-control', options))
  }
  await Promise.all(
    sites.map(async (site) => {
      const host = lab.node(`edge-${site}`)
      await startTestServer(host, 'http', { port })
      await writeService(lab, `web-${site}`, addressOf(site), [{ node: host.name, host, port }])
      agents.set(site, await lab.startAgent(host.name))
    }),
  )
})
after(() => lab?.[Symbol.asyncDispose]())

async function pathOf(from: string, to: string) {
  const { tunnel } = await quickStatusOf(lab.node(`edge-${from}`))
  return tunnel?.peers.find(({ name }) => name === `edge-${to}`)?.path
}

for (const [site, protocol] of Object.entries(routers)) {
  test(`a router that is asked by ${protocol} opens a port, which is told to others once a server was let in`, async () => {
    const listening = `${lab.node(`edge-${site}`).address}:20006`
    const mapped = await opened.get(site)?.waitForLine(new RegExp(`^mapped \\d+ to ${listening}$`), 20_000)
    const [, given = ''] = /^mapped (\d+)/.exec(mapped ?? '') ?? []
    assert.ok(Number(given) >= 41_000, mapped)
    const line = await agents.get(site)?.waitForLine(/the router has opened a port for this node/, 20_000)
    assert.ok(line?.includes(`"${lab.router(site).address}:${given}"`), line)
    assert.ok(line?.includes(protocol), line)
    const { stdout } = await edgemesh(
      lab.node(`edge-${site}`),
      'status',
      '--config',
      configFileOf(lab.node(`edge-${site}`)),
    )
    assert.match(stdout, new RegExp(`^router {4}lets peers in at 203.0.113.\\d+:${given}$`, 'm'))
  })
}

for (const [from, to, whose] of [
  ['none', 'pcp', 'the node that it leads to'],
  ['pmp', 'none', 'a node that can only be dialled back by the other one'],
  ['pcp', 'pmp', 'both'],
  ['none', 'upnp', 'a node that asked by UPnP'],
] as const) {
  test(`a pair of NATs that change ports is direct through a port of ${whose}`, async (t) => {
    const ms = await eventually(30_000, async () => {
      assert.equal(await bodyFrom(lab.node(`edge-${from}`), `http://${addressOf(to)}/`), `edge-${to}`)
      const path = await pathOf(from, to)
      assert.equal(path?.kind, 'direct', JSON.stringify(path))
    })
    t.diagnostic(`direct after ${ms.toFixed(0)} ms`)
  })
}

for (const [site, closed] of [
  ['pcp', /^removed 192\.168\.1\.11:20006$/],
  ['upnp', /^removed 192\.168\.3\.11:20006$/],
] as const) {
  test(`an agent that stops has its port closed again by ${routers[site]}`, async () => {
    await agents.get(site)?.stop()
    await opened.get(site)?.waitForLine(closed, 10_000)
  })
}
