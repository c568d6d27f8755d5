/**
 * Asks URLs over and over, each time over a new connection, and prints a line of JSON for each answer: `request-client.ts
 * EVERY_MS TIMEOUT_MS all|until URL...`. With `until` it asks one URL until there is an answer, then the next, and only
 * prints answers; with `all` each URL all the time, and prints errors too. Requests do not wait for each other, but on a
 * machine that is too busy for them some are left out.
 */
import { get } from 'node:http'
import process from 'node:process'
import { text } from 'node:stream/consumers'

const [every = '', timeoutMs = '', mode = '', ...urls] = process.argv.slice(2)
const everyMs = Number(every)
const mostAtATime = 10 * urls.length
let current = 0
let underWay = 0

function ask(url: string): void {
  if (underWay >= mostAtATime) return
  underWay += 1
  const at = Date.now()
  const tell = (result: object) => console.log(JSON.stringify({ url, at, ms: Date.now() - at, ...result }))
  const answered = (answer: string) => {
    if (mode === 'all') tell({ answer })
    else if (url === urls[current]) {
      current += 1
      tell({ answer })
    }
  }
  const failed = (error: NodeJS.ErrnoException) => {
    if (mode === 'all') tell({ error: error.code ?? error.message })
  }
  const signal = AbortSignal.timeout(Number(timeoutMs))
  const request = get(url, { agent: false, signal }, (response) => {
    text(response).then((body) => answered(body.trim()), failed)
  })
  request.on('error', failed)
  request.on('close', () => {
    underWay -= 1
  })
}

console.log('asking')
setInterval(() => {
  if (mode === 'all') for (const url of urls) ask(url)
  else if (urls[current] !== undefined) ask(urls[current] ?? '')
}, everyMs)
