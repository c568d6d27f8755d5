/**
 * What netlink.test.ts puts under stress: the network of its namespace, seen through src/linux. Its arguments say what
 * to do; what it sees goes to standard output. Runs until it is stopped.
 */
import process from 'node:process'
import { createNodeNetwork } from '../../../src/linux/index.ts'
import { openRouteSocket } from '../../../src/linux/netlink.ts'
import { createLogger, describeError } from '../../../src/observability/index.ts'

const signal = AbortSignal.timeout(120_000)
const network = await createNodeNetwork(createLogger('info'))
process.on('uncaughtException', (error) => console.log(`uncaught: ${error.message}`))

async function show(): Promise<void> {
  const { interfaces, defaultRouteInterfaces } = await network.view(signal)
  const addresses = interfaces.flatMap((entry) => entry.addresses)
  console.log(`sees ${interfaces.length} links, ${addresses.length} addresses, default ${defaultRouteInterfaces}.`)
}

/** Reads as fast as the kernel answers, so that there is a request in flight whenever the process is stopped. */
async function readOnAndOn(): Promise<void> {
  let count = 0
  for (;;) {
    await network.view(signal)
    count += 1
    if (count % 100 === 0) console.log(`read ${count}`)
  }
}

/** A listener inside the native callback of a socket that hears of links, which src/linux itself never has. */
async function throwInCallback(): Promise<void> {
  using netlink = await openRouteSocket()
  const hearing = netlink.ask('hear news', (socket) => {
    socket.addMembership('LINK')
    socket.socket.on('message', () => {
      throw new Error('thrown in the native callback')
    })
    console.log('hears')
    return new Promise(() => {})
  })
  await hearing.catch((error: unknown) => console.log(`failed: ${describeError(error)}`))
  const links = await netlink.ask('list devices', (socket) => socket.getLinks())
  console.log(`the next socket lists ${links.length} links`)
}

/** What runs right after an answer must not run inside the native callback that brought it. */
async function throwAfterAnswer(): Promise<void> {
  await network.view(signal)
  process.nextTick(() => {
    throw new Error('thrown after an answer')
  })
}

const actions: Readonly<Record<string, () => Promise<unknown>>> = {
  watch: () => network.watch(() => void show()),
  'watch, throwing': () =>
    network.watch(() => {
      throw new Error('thrown by the listener')
    }),
  'read on and on': readOnAndOn,
  'throw in a callback': throwInCallback,
  'throw after an answer': throwAfterAnswer,
}

const withoutEnd: readonly string[] = ['read on and on', 'throw in a callback']

setInterval(() => {}, 60_000)
for (const name of process.argv.slice(2)) {
  const action = actions[name]
  if (action === undefined) throw new Error(`no action ${name}`)
  if (withoutEnd.includes(name)) void action()
  else await action()
}
console.log('ready')
