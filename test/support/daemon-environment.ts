/** What the daemons of a run get in their environment besides the usual: how they run under a sanitizer. */
const NAME = 'TSFS_TEST_DAEMON_ENVIRONMENT';

export function daemonEnvironment(): Record<string, string> {
  const json = process.env[NAME];
  return json === undefined ? {} : (JSON.parse(json) as Record<string, string>);
}

export function announceDaemonEnvironment(environment: Readonly<Record<string, string>>): Record<string, string> {
  return { [NAME]: JSON.stringify(environment) };
}
