// Package config finds the settings of the command. Each has one name, and its value comes from the first of these that
// says anything:
//
//	a flag                    --listen 0.0.0.0:7420
//	the environment           ANABRANCH_LISTEN=0.0.0.0:7420
//	the configuration file    listen = "0.0.0.0:7420"
//	the default               127.0.0.1:7420
//
// The file is TOML, and there is only one: the one that --config or ANABRANCH_CONFIG names, else
// anabranch.toml in the store directory, if it is there. It is read strictly: an unknown name, a wrong type or a value
// that cannot be is refused with file and line, because a misspelt `alow` must not leave a node open or closed by
// accident. The store directory itself is not set there, since it is where the file is looked for.
//
// Which values hold, and where each comes from, is what `anabranch config print --effective` shows.
package config
